"""Grid features to voxel logits. again: compute convolutions again in the backward pass (`mvl/recompute.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import SegmenterConfig
from mvl.ladder import Ladder
from mvl.recompute import run
from mvl.skips import Convs, from_cells


class LinearDecoder(nn.Module):
    """One linear map from a token to the logits of its patch (the paper's code).

    forward: grid (B, D, U, V, W) to logits (B, K, X, Y, Z). The image's own features are not looked at.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.map = nn.Conv3d(config.width, config.classes * math.prod(config.patch), kernel_size=1)

    def forward(self, grid_BDUVW: Tensor, skips: Sequence[Tensor], again: bool = False) -> Tensor:
        return from_cells(self.map(grid_BDUVW), self.patch)


class SkipDecoder(nn.Module):
    """Goes from the grid to finer resolutions, and at each takes in features of the image itself (`mvl/skips.py`).

    `skip` goes on to full resolution. `subpixel` leaves the last doubling to the head: the finest convolutions then run
    on cells of up to 2x2x2 voxels, which they see as 8 C channels, and one linear map gives the 8 K logits of a cell
    (Shi et al. 2016, arXiv 1609.05158). Nothing of the image is lost, an eighth of the positions are computed, at twice
    the channels.
    forward: grid (B, D, U, V, W), features (B, width, …) a resolution, coarse to fine, to logits (B, K, X, Y, Z).
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        ladder = Ladder.of(config)
        inner, self.cell = [config.width, *ladder.widths], ladder.cell
        self.reduce = nn.ModuleList(nn.Conv3d(a, b, kernel_size=1) for a, b in zip(inner, ladder.widths, strict=False))
        self.mix = nn.ModuleList(Convs(width, width, config.decoder_depth) for width in ladder.widths)
        self.head = nn.Conv3d(inner[-1], config.classes * ladder.voxels, kernel_size=1)

    def forward(self, grid_BDUVW: Tensor, skips: Sequence[Tensor], again: bool = False) -> Tensor:
        x = grid_BDUVW
        for reduce, mix, skip in zip(self.reduce, self.mix, skips, strict=True):
            # The narrow map comes before the upsampling: an eighth of the work, and both are linear.
            up = F.interpolate(reduce(x), size=skip.shape[2:], mode="trilinear", align_corners=False)
            x = run(mix, up + skip, again=again)
        return from_cells(self.head(x), self.cell)


DECODERS: dict[str, type[LinearDecoder] | type[SkipDecoder]] = {
    "linear": LinearDecoder,
    "skip": SkipDecoder,
    "subpixel": SkipDecoder,
}
