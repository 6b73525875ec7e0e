"""From the prepared grid back to the image's own, plane by plane, while the prediction is still being made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data.grid import Grid

#: Resampled planes are made as many at a time as fit into this.
_BYTES = 64 * 1024**2


def planes(slabs: Iterable[Tensor], grid: Grid) -> Iterator[tuple[int, Tensor]]:
    """Each plane of the content's native voxels, along the first RAS axis: its number, and its (K, Y, Z).

    slabs are the consecutive (K, n, Y, Z) on the prepared grid. Linear, as `bench.data.grid.to_native` has it; along
    the axis `grid.apart` each voxel takes what it lies in. Two prepared planes are enough for a native one.
    """
    low, weight = _places(grid.shape[0], grid.box_shape[0], nearest=grid.apart == 0)
    high = np.where(weight > 0, low + 1, low)
    number, seen = 0, 0
    held_KnYZ: Tensor | None = None
    for part_KnYZ in _parts(slabs, grid):
        flat_KnYZ = _across(part_KnYZ, grid)
        seen += flat_KnYZ.shape[1]
        held_KnYZ = flat_KnYZ if held_KnYZ is None else torch.cat([held_KnYZ, flat_KnYZ], 1)
        first = seen - held_KnYZ.shape[1]
        while number < len(low) and high[number] < seen:
            below_KYZ = held_KnYZ[:, low[number] - first]
            above_KYZ = held_KnYZ[:, high[number] - first]
            same = high[number] == low[number]
            yield number, below_KYZ if same else torch.lerp(below_KYZ, above_KYZ, float(weight[number]))
            number += 1
        held_KnYZ = held_KnYZ[:, -1:].clone()
    assert number == len(low), "the slabs cover the prepared grid"


def _places(old: int, new: int, nearest: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each new voxel along an axis the old one below it, and the weight of the next; as `bench.data.grid`."""
    centre = (np.arange(new) + 0.5) * old / new
    if nearest:
        return centre.astype(int), np.zeros(new)
    at = np.clip(centre - 0.5, 0, old - 1)
    return at.astype(int), at - at.astype(int)


def _parts(slabs: Iterable[Tensor], grid: Grid) -> Iterator[Tensor]:
    _, height, length = grid.box_shape
    for slab in slabs:
        if slab.shape[1]:
            yield from slab.split(max(1, _BYTES // (4 * len(slab) * height * length)), dim=1)


def _across(part_KnYZ: Tensor, grid: Grid) -> Tensor:
    """The same planes with the native number of voxels along the other two axes; never a view of the given ones."""
    shape = grid.box_shape[1:]
    for axis in (1, 2):
        if grid.apart == axis:
            index, _ = _places(grid.shape[axis], grid.box_shape[axis], nearest=True)
            part_KnYZ = part_KnYZ.index_select(axis + 1, torch.from_numpy(index).to(part_KnYZ.device))
    if tuple(part_KnYZ.shape[2:]) == shape:
        return part_KnYZ.clone()
    return F.interpolate(part_KnYZ, size=shape, mode="bilinear", align_corners=False)
