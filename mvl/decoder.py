"""Grid features to voxel logits."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import SegmenterConfig, Size3


class LinearDecoder(nn.Module):
    """One linear map from a token to the logits of its patch (the paper's code)."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.patch, self.classes = config.patch, config.classes
        p, q, r = config.patch
        self.map = nn.Conv3d(config.width, config.classes * p * q * r, kernel_size=1)

    def forward(self, grid_BDUVW: Tensor, image_BCXYZ: Tensor) -> Tensor:
        p, q, r = self.patch
        return rearrange(self.map(grid_BDUVW), "b (k p q r) u v w -> b k (u p) (v q) (w r)", p=p, q=q, r=r)


class SkipDecoder(nn.Module):
    """Doubles the grid until it is the image, and at each resolution takes in features of the image itself.

    A token knows where an organ is, the image where its edge is; without the skips every edge falls on the patch grid.
    forward: grid (B, D, U, V, W), image (B, C, X, Y, Z) to logits (B, K, X, Y, Z).
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.steps = upsampling_steps(config.patch)
        widths = [max(8, config.width >> (i + 1)) for i in range(len(self.steps))]
        inner = [config.width, *widths]
        self.skips = nn.ModuleList(ConvNormAct(config.channels, w) for w in widths)
        self.reduce = nn.ModuleList(nn.Conv3d(a, b, kernel_size=1) for a, b in zip(inner, widths, strict=False))
        self.mix = nn.ModuleList(ConvNormAct(w, w) for w in widths)
        self.head = nn.Conv3d(inner[-1], config.classes, kernel_size=1)

    def forward(self, grid_BDUVW: Tensor, image_BCXYZ: Tensor) -> Tensor:
        x, pyramid = grid_BDUVW, self._pyramid(image_BCXYZ)
        for reduce, skip, mix, image in zip(self.reduce, self.skips, self.mix, pyramid, strict=True):
            # The narrow map comes before the upsampling: an eighth of the work, and both are linear.
            up = F.interpolate(reduce(x), size=image.shape[2:], mode="trilinear", align_corners=False)
            x = mix(up + skip(image))
        return self.head(x)

    def _pyramid(self, image_BCXYZ: Tensor) -> list[Tensor]:
        """The image at each resolution that the decoder passes, coarse to fine."""
        levels = [image_BCXYZ]
        for step in reversed(self.steps[1:]):
            levels.append(F.avg_pool3d(levels[-1], kernel_size=step, stride=step))
        return levels[::-1]


def upsampling_steps(patch: Size3) -> list[Size3]:
    """How the patch is undone, coarse to fine: halving each axis that can be halved, then what is left over.

    >>> upsampling_steps((8, 8, 2))
    [(2, 2, 2), (2, 2, 1), (2, 2, 1)]
    """
    left, steps = list(patch), list[Size3]()
    while max(left) > 1:
        x, y, z = (2 if side % 2 == 0 else side for side in left)
        left = [left[0] // x, left[1] // y, left[2] // z]
        steps.append((x, y, z))
    return steps or [(1, 1, 1)]


class ConvNormAct(nn.Module):
    """3x3x3 convolution, instance norm, leaky ReLU, as nnU-Net has them."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inside, outside, kernel_size=3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(outside, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)


DECODERS: dict[str, type[nn.Module]] = {"linear": LinearDecoder, "skip": SkipDecoder}
