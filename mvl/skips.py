"""Features of the image at the resolutions between its voxels and the tokens: what the decoder's skips carry.

A token knows where an organ is, the image where its edge is; without skips every edge falls on the patch grid.
again: compute the convolutions again in the backward pass (`mvl/recompute.py`).
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import SegmenterConfig, Size3
from mvl.ladder import Ladder
from mvl.recompute import run

#: Feature maps, coarse to fine, and what is added to the tokens' grid, (B, D, U, V, W), where there is anything.
Features = tuple[list[Tensor], Tensor | None]


class NoSkips(nn.Module):
    """For a decoder that looks at tokens alone."""

    def forward(self, image_BCXYZ: Tensor, again: bool = False) -> Features:
        return [], None


class PooledSkips(nn.Module):
    """The image averaged to each resolution, and convolutions there; no resolution knows of another."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.ladder = Ladder.of(config)
        inside = config.channels * self.ladder.voxels
        self.convs = nn.ModuleList(Convs(inside, width, config.decoder_depth) for width in self.ladder.widths)

    def forward(self, image_BCXYZ: Tensor, again: bool = False) -> Features:
        levels = [to_cells(image_BCXYZ, self.ladder.cell)]
        for step in reversed(self.ladder.steps[1:]):
            levels.append(F.avg_pool3d(levels[-1], kernel_size=step, stride=step))
        return [run(convs, level, again=again) for convs, level in zip(self.convs, levels[::-1], strict=False)], None


class ConvStem(nn.Module):
    """A small convolutional encoder: features at each resolution from those at the finer one, then the tokens' grid.

    What it says of a token is added to the patch's linear embedding. That one is linear and then normalised, so that a
    patch of even brightness keeps the sign of its value and little else; an organ is told by just that value. Early
    convolutions also let a ViT learn in fewer steps: Xiao et al. 2021, arXiv 2106.14881.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.ladder = ladder = Ladder.of(config)
        widths = ladder.widths[::-1]
        inside = [config.channels * ladder.voxels, *widths[1:]]
        self.convs = nn.ModuleList(Convs(a, b, config.decoder_depth) for a, b in zip(inside, widths, strict=False))
        self.falls = nn.ModuleList(
            nn.Conv3d(a, b, kernel_size=step, stride=step)
            for a, b, step in zip(widths, [*widths[1:], config.width], reversed(ladder.steps), strict=False)
        )

    def forward(self, image_BCXYZ: Tensor, again: bool = False) -> Features:
        features, x = list[Tensor](), to_cells(image_BCXYZ, self.ladder.cell)
        for convs, fall in zip(self.convs, self.falls, strict=True):
            features.append(run(convs, x, again=again))
            x = fall(features[-1])
        return features[::-1], x if features else None


class Convs(nn.Module):
    """count times 3x3x3 convolution, instance norm, leaky ReLU, as nnU-Net has them. (B, inside, …) to (B, outside, …).

    With a residual around them where the widths agree.
    """

    def __init__(self, inside: int, outside: int, count: int) -> None:
        super().__init__()
        self.residual = inside == outside
        widths = [inside] + [outside] * (count - 1)
        self.convs = nn.ModuleList(nn.Conv3d(a, outside, kernel_size=3, padding=1, bias=False) for a in widths)
        self.norms = nn.ModuleList(nn.InstanceNorm3d(outside, affine=True) for _ in widths)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            out = F.leaky_relu(norm(conv(out)), 0.01)
        return x + out if self.residual else out


def make_skips(config: SegmenterConfig) -> NoSkips | PooledSkips | ConvStem:
    """What the stem and the decoder ask for: the stem `conv` makes skips as well, whether or not they are used."""
    if config.stem == "conv":
        return ConvStem(config)
    return NoSkips() if config.decoder == "linear" else PooledSkips(config)


def to_cells(image_BCXYZ: Tensor, cell: Size3) -> Tensor:
    """(B, C, X, Y, Z) to (B, C p q r, X / p, Y / q, Z / r): the voxels of a cell as channels."""
    p, q, r = cell
    return rearrange(image_BCXYZ, "b c (x p) (y q) (z r) -> b (c p q r) x y z", p=p, q=q, r=r)


def from_cells(logits: Tensor, cell: Size3) -> Tensor:
    """The inverse of `to_cells`: (B, K p q r, X / p, Y / q, Z / r) to (B, K, X, Y, Z)."""
    p, q, r = cell
    return rearrange(logits, "b (k p q r) x y z -> b k (x p) (y q) (z r)", p=p, q=q, r=r)
