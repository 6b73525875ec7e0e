"""Volume to tokens and back to a grid."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import Size3


def pad_to_multiple(image_BCXYZ: Tensor, patch: Size3) -> Tensor:
    """Each axis continued by its far edge until it is a multiple of the patch."""
    u, v, w = (side + -side % step for side, step in zip(image_BCXYZ.shape[2:], patch, strict=True))
    return continued(image_BCXYZ, (u, v, w))


def continued(image_BCXYZ: Tensor, size: Size3) -> Tensor:
    """(B, C, *size), no side shorter than it was: the far edge repeated, as crops and windows go on beyond a volume.

    Zeros would be soft tissue in a prepared CT.
    """
    x, y, z = (new - side for new, side in zip(size, image_BCXYZ.shape[2:], strict=True))
    return F.pad(image_BCXYZ, (0, z, 0, y, 0, x), mode="replicate") if x or y or z else image_BCXYZ


def to_grid(tokens_BND: Tensor, grid: Size3) -> Tensor:
    """(B, N, D) to (B, D, U, V, W)."""
    u, v, w = grid
    return rearrange(tokens_BND, "b (u v w) d -> b d u v w", u=u, v=v, w=w)


def to_tokens(grid_BDUVW: Tensor) -> Tensor:
    """(B, D, U, V, W) to (B, N, D)."""
    return rearrange(grid_BDUVW, "b d u v w -> b (u v w) d")


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, one linear map, a learned position a token.

    The map is a matrix product over flattened patches: the same as a convolution whose stride is its kernel, and
    faster on a CPU. On another grid the positions are interpolated trilinearly.
    """

    def __init__(self, channels: int, patch: Size3, grid: Size3, width: int) -> None:
        super().__init__()
        self.patch, self.grid = patch, grid
        self.project = nn.Linear(channels * patch[0] * patch[1] * patch[2], width)
        self.position_1DUVW = nn.Parameter(torch.empty(1, width, *grid))
        nn.init.trunc_normal_(self.position_1DUVW, std=0.02)

    def forward(self, image_BCXYZ: Tensor) -> tuple[Tensor, Size3]:
        """(B, C, X, Y, Z), each side a multiple of the patch, to ((B, N, D), grid)."""
        p, q, r = self.patch
        x, y, z = image_BCXYZ.shape[2:]
        grid = (x // p, y // q, z // r)
        patches = rearrange(image_BCXYZ, "b c (u p) (v q) (w r) -> b (u v w) (c p q r)", p=p, q=q, r=r)
        return self.project(patches) + to_tokens(self._positions(grid)), grid

    def _positions(self, grid: Size3) -> Tensor:
        if grid == self.grid:
            return self.position_1DUVW
        return F.interpolate(self.position_1DUVW, size=grid, mode="trilinear", align_corners=False)
