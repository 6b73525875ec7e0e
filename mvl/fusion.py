"""What the decoder receives: the last tokens, or several depths at several scales of the grid.

The paper (arXiv 2410.02458, v1) names a "Multi-Scale Fusion Block" that aggregates features over several scales,
without equations, and no public code has one. MultiScaleFusion is this project's own design.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import Size3
from mvl.patches import to_grid


class LastTokens(nn.Module):
    """No fusion: the normalised last tokens as a grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, depths_BND: Sequence[Tensor], grid: Size3) -> Tensor:
        return to_grid(self.norm(depths_BND[-1]), grid)


class MultiScaleFusion(nn.Module):
    """Several depths, joined by one linear map; then the grid at scales 1, 1/2 and 1/4, each coarse one mapped, added.

    depths: each (B, N, D), first to last. Returns (B, D, U, V, W). Scales that the grid is too small for are the mean
    over all of it. The first scale passes unchanged, so at worst the fusion is a linear map of the depths. kernel 3
    lets a coarse cell see its neighbours, and by the padding where the crop ends: what lies left of what.
    """

    def __init__(self, width: int, depths: int, scales: Sequence[int] = (2, 4), kernel: int = 1) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depths))
        self.join = nn.Linear(width * depths, width)
        self.maps = nn.ModuleList(nn.Conv3d(width, width, kernel, padding="same") for _ in self.scales)

    def forward(self, depths_BND: Sequence[Tensor], grid: Size3) -> Tensor:
        normed = [norm(x_BND) for norm, x_BND in zip(self.norms, depths_BND, strict=True)]
        fine_BDUVW = to_grid(self.join(torch.cat(normed, dim=-1)), grid)
        fused = fine_BDUVW
        for scale, conv in zip(self.scales, self.maps, strict=True):
            coarse = [max(1, side // scale) for side in grid]
            pooled = F.gelu(conv(F.adaptive_avg_pool3d(fine_BDUVW, (coarse[0], coarse[1], coarse[2]))))
            fused = fused + F.interpolate(pooled, size=grid, mode="trilinear", align_corners=False)
        return fused
