"""Grid features to voxel logits."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import ONE, SegmenterConfig, Size3, upsampling_steps


class LinearDecoder(nn.Module):
    """One linear map from a token to the logits of its patch (the paper's code).

    forward: grid (B, D, U, V, W), image (B, C, X, Y, Z) to logits (B, K, X, Y, Z). The image is not looked at.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.patch = config.patch
        p, q, r = config.patch
        self.map = nn.Conv3d(config.width, config.classes * p * q * r, kernel_size=1)

    def forward(self, grid_BDUVW: Tensor, image_BCXYZ: Tensor) -> Tensor:
        return from_cells(self.map(grid_BDUVW), self.patch)


class SkipDecoder(nn.Module):
    """Doubles the grid until it is the image, and at each resolution takes in features of the image itself.

    A token knows where an organ is, the image where its edge is; without the skips every edge falls on the patch grid.
    config.decoder_width channels at the finest resolution, twice as many at each coarser one, never more than D.

    subpixel: the last doubling is left to the head. The finest convolutions then run on cells of up to 2x2x2 voxels,
    which they see as 8 C channels, and one linear map gives the 8 K logits of a cell (Shi et al. 2016, arXiv
    1609.05158). Nothing of the image is lost, an eighth of the positions are computed, at twice the channels.
    forward: grid (B, D, U, V, W), image (B, C, X, Y, Z) to logits (B, K, X, Y, Z).
    """

    def __init__(self, config: SegmenterConfig, subpixel: bool = False) -> None:
        super().__init__()
        self.steps = upsampling_steps(config.patch)
        self.cell = self.steps.pop() if subpixel else ONE
        finest = config.decoder_width * (2 if subpixel else 1)
        widths = [min(config.width, finest << level) for level in reversed(range(len(self.steps)))]
        inner = [config.width, *widths]
        in_cell = self.cell[0] * self.cell[1] * self.cell[2]
        self.skips = nn.ModuleList(ConvNormAct(config.channels * in_cell, w) for w in widths)
        self.reduce = nn.ModuleList(nn.Conv3d(a, b, kernel_size=1) for a, b in zip(inner, widths, strict=False))
        self.mix = nn.ModuleList(ConvNormAct(w, w) for w in widths)
        self.head = nn.Conv3d(inner[-1], config.classes * in_cell, kernel_size=1)

    def forward(self, grid_BDUVW: Tensor, image_BCXYZ: Tensor) -> Tensor:
        x, pyramid = grid_BDUVW, self._pyramid(to_cells(image_BCXYZ, self.cell))
        for reduce, skip, mix, image in zip(self.reduce, self.skips, self.mix, pyramid, strict=True):
            # The narrow map comes before the upsampling: an eighth of the work, and both are linear.
            up = F.interpolate(reduce(x), size=image.shape[2:], mode="trilinear", align_corners=False)
            x = mix(up + skip(image))
        return from_cells(self.head(x), self.cell)

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """The image at each resolution that the decoder passes, coarse to fine."""
        levels = [image]
        for step in reversed(self.steps[1:]):
            levels.append(F.avg_pool3d(levels[-1], kernel_size=step, stride=step))
        return levels[::-1][: len(self.steps)]


class SubpixelDecoder(SkipDecoder):
    """The skip decoder on cells of voxels: a fraction of its time at patches of 8 and more."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__(config, subpixel=True)


def to_cells(image_BCXYZ: Tensor, cell: Size3) -> Tensor:
    """(B, C, X, Y, Z) to (B, C p q r, X / p, Y / q, Z / r): the voxels of a cell as channels."""
    p, q, r = cell
    return rearrange(image_BCXYZ, "b c (x p) (y q) (z r) -> b (c p q r) x y z", p=p, q=q, r=r)


def from_cells(logits: Tensor, cell: Size3) -> Tensor:
    """The inverse of `to_cells`: (B, K p q r, X / p, Y / q, Z / r) to (B, K, X, Y, Z)."""
    p, q, r = cell
    return rearrange(logits, "b (k p q r) x y z -> b k (x p) (y q) (z r)", p=p, q=q, r=r)


class ConvNormAct(nn.Module):
    """3x3x3 convolution, instance norm, leaky ReLU, as nnU-Net has them. (B, inside, …) to (B, outside, …)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inside, outside, kernel_size=3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(outside, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)


DECODERS: dict[str, type[nn.Module]] = {"linear": LinearDecoder, "skip": SkipDecoder, "subpixel": SubpixelDecoder}
