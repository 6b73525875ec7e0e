"""DynUNet: MONAI's form of the network that nnU-Net plans, here from the crop alone."""

from __future__ import annotations

import math

from monai.networks.nets.dynunet import DynUNet

from mvl.config import SegmenterConfig, Size3
from mvl.references.fitted import Fitted

#: nnU-Net's plans for three dimensions: at most six resolutions, no side below four voxels, and at most ten times the
#: features of the first resolution (32 to 320).
_RESOLUTIONS, _LEAST_SIDE, _WIDEST = 6, 4, 10


def build(config: SegmenterConfig, features: int) -> Fitted:
    """Kernels of 3, instance norm, leaky ReLU, no deep supervision.

    Source: Isensee et al. 2021, doi 10.1038/s41592-020-01008-z. nnU-Net also looks at the spacing, and leaves a coarse
    axis whole at first; crops here are of prepared volumes, whose short axes are left whole by the rule on sides.
    """
    strides = [(1, 1, 1), *halvings(config.image)]
    step: Size3 = tuple(math.prod(axis) for axis in zip(*strides, strict=True))
    net = DynUNet(
        spatial_dims=3,
        in_channels=config.channels,
        out_channels=config.classes,
        kernel_size=[3] * len(strides),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(features * 2**level, _WIDEST * features) for level in range(len(strides))],
        deep_supervision=False,
    )
    bottleneck = net.bottleneck
    # MONAI registers each part twice, and a state dict with shared tensors cannot be saved as safetensors.
    for twice in ("input_block", "downsamples", "bottleneck", "upsamples"):
        delattr(net, twice)
    return Fitted(net, config, step, end=bottleneck, least=(2 * step[0], 2 * step[1], 2 * step[2]))


def halvings(image: Size3) -> list[Size3]:
    """The strides after the first resolution: each side is halved while four voxels are left; at least two of them.

    >>> halvings((32, 32, 8))
    [(2, 2, 2), (2, 2, 1), (2, 2, 1)]
    """
    sides, strides = list(image), list[Size3]()
    while len(strides) < _RESOLUTIONS - 1 and max(sides) >= 2 * _LEAST_SIDE:
        x, y, z = (2 if side >= 2 * _LEAST_SIDE else 1 for side in sides)
        sides = [math.ceil(side / by) for side, by in zip(sides, (x, y, z), strict=True)]
        strides.append((x, y, z))
    return strides + [(2, 2, 2)] * (2 - len(strides))
