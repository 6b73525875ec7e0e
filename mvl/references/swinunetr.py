"""SwinUNETR: a Swin transformer with a convolutional decoder."""

from __future__ import annotations

import math

from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn

from mvl.config import SegmenterConfig
from mvl.references.fitted import Fitted, fit

_STEP = (32, 32, 32)
#: An instance norm over fewer voxels than this leaves hardly anything of them.
_FEW = 8


def build(config: SegmenterConfig, features: int) -> Fitted:
    """Depths 2, 2, 2, 2, heads 3, 6, 12, 24, windows of 7, MONAI's defaults. Source: arXiv 2201.01266.

    It halves a crop five times. Where that leaves fewer than eight voxels (a crop of 32³ leaves one), the norms of that
    last resolution are taken over channels too: an instance norm has no value there. Its attention is within windows.
    """
    net = SwinUNETR(config.channels, config.classes, feature_size=features, use_flash_attention=True)
    deepest = [side // 32 for side in fit(config.image, _STEP, (1, 1, 1))]
    if math.prod(deepest) < _FEW:
        _norm_over_channels(net.encoder10)
    return Fitted(net, config, _STEP, end=net.swinViT.layers4[0])


def _norm_over_channels(part: nn.Module) -> None:
    for module in list(part.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm3d):
                setattr(module, name, nn.GroupNorm(1, child.num_features, affine=child.affine))
