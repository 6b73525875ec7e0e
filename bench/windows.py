"""Sliding windows: class probabilities of overlapping windows, blended with a Gaussian, a slab of planes at a time.

Only the planes that further windows may still change are held as sums. Places, padding and weights are those of MONAI's
`sliding_window_inference(mode="gaussian", padding_mode="replicate")`, so that the results are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mvl.config import Size3

#: Windows (B, C, x, y, z) in, class probabilities (B, K, x, y, z) float32 out; they add up to 1 over the K classes.
Predictor = Callable[[Tensor], Tensor]
#: Called after each batch with the windows that are done and all that there are.
OnWindows = Callable[[int, int], None]


def slabs(
    predictor: Predictor,
    image_CXYZ: NDArray[np.float32],
    window: Size3,
    overlap: float,
    batch: int = 1,
    on_windows: OnWindows | None = None,
) -> Iterator[Tensor]:
    """The blended probabilities a few planes at a time, (K, n, Y, Z) float32, in the order of the first axis.

    overlap is that of neighbouring windows, as a share of the window; batch is how many windows the predictor gets at
    once. A slab is a view, gone once the next one is asked for. An image smaller than the window is continued by its
    edge on both sides. Held are K + 2 arrays of the window's first side by Y by Z, on the predictor's device, however
    long the image is; the background of a slab is what its other classes leave.
    """
    ring = _Ring(image_CXYZ.shape[1:], window, overlap)
    corners = list(itertools.product(ring.xs, ring.ys, ring.zs))
    for place in range(0, len(corners), batch):
        some = corners[place : place + batch]
        outputs_BKxyz = predictor(_crops(image_CXYZ, some, window, ring.pads))
        if place == 0:
            ring.allocate(outputs_BKxyz)
        for (x, y, z), output_Kxyz in zip(some, outputs_BKxyz, strict=True):
            if x > ring.x:
                yield from ring.finish(x)
            ring.add(y, z, output_Kxyz)
        del outputs_BKxyz, output_Kxyz  # before the next are made: they may then lie in the same, warm memory
        if on_windows:
            on_windows(place + len(some), len(corners))
    yield from ring.finish(ring.padded[0])


def starts(side: int, width: int, overlap: float) -> list[int]:
    """The first voxels of the windows along one axis; the last window is flush with the end."""
    step = max(1, int(width * (1 - overlap)))
    return [*range(0, side - width, step), max(0, side - width)]


def gaussian(window: Size3) -> Tensor:
    """Weights (X, Y, Z) with a standard deviation of an eighth of each side, at least 1e-3 everywhere."""
    x, y, z = (torch.exp(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in window)
    return (x[:, None, None] * y[:, None] * z).clamp_min(1e-3)


class _Ring:
    """Weighted sums of the planes from x on: plane p of the padded image lies at p modulo the window's first side."""

    sums: Tensor
    weight: Tensor
    row_weight: Tensor
    spare: Tensor

    def __init__(self, size: Sequence[int], window: Size3, overlap: float) -> None:
        self.window, self.x = window, 0
        self.padded = [max(pair) for pair in zip(size, window, strict=True)]
        before = [(large - side) // 2 for large, side in zip(self.padded, size, strict=True)]
        self.pads = [(b, large - side - b) for b, large, side in zip(before, self.padded, size, strict=True)]
        self.inside = tuple(slice(b, b + side) for b, side in zip(before, size, strict=True))
        axes = zip(self.padded, window, strict=True)
        self.xs, self.ys, self.zs = (starts(large, width, overlap) for large, width in axes)

    def allocate(self, like_BKxyz: Tensor) -> None:
        """Make room for so many classes, where the predictor's outputs are."""
        where, plane = like_BKxyz.device, self.padded[1:]
        self.sums = _zeros((like_BKxyz.shape[1], self.window[0], *plane), where)
        self.weight = gaussian(self.window).to(where)
        self.row_weight = _zeros((self.window[0], *plane), where)
        self.spare = torch.empty_like(self.row_weight)
        strip = _zeros((*self.window[:2], plane[1]), where)
        for z in self.zs:
            strip[..., z : z + self.window[2]] += self.weight
        for y in self.ys:
            self.row_weight[:, y : y + self.window[1]] += strip

    def add(self, y: int, z: int, output_Kxyz: Tensor) -> None:
        """Add one window that starts at plane x, but for its background."""
        for ring, part in self._pieces(self.x + self.window[0]):
            at = (slice(1, None), ring, slice(y, y + self.window[1]), slice(z, z + self.window[2]))
            self.sums[at].addcmul_(output_Kxyz[1:, part], self.weight[part])

    def finish(self, end: int) -> Iterator[Tensor]:
        """Divide planes x to end by their weights and give them; then go on to windows that start at plane end."""
        weight = self._weight(end)
        for ring, part in self._pieces(end):
            slab = self.sums[:, ring]
            slab[1:] /= weight[part]
            torch.sub(torch.ones((), device=slab.device), slab[1], out=slab[0])
            for other in slab[2:]:
                slab[0] -= other
            yield slab[:, self.inside[0] if self.pads[0] != (0, 0) else slice(None), *self.inside[1:]]
            if end < self.padded[0]:
                slab[1:] = 0
        self.x = end

    def _weight(self, end: int) -> Tensor:
        """The weights of planes x to end, of all windows that they lie in; those that start at x hold them all."""
        weight = self.spare[: end - self.x].copy_(self.row_weight[: end - self.x])
        for before in (self.x - x for x in self.xs if x < self.x):
            still = min(end - self.x, self.window[0] - before)
            if still > 0:
                weight[:still] += self.row_weight[before : before + still]
        return weight

    def _pieces(self, end: int) -> Iterator[tuple[slice, slice]]:
        """Planes x to end as slices of the ring, each with its place counted from x."""
        depth, place = self.window[0], self.x
        while place < end:
            at = place % depth
            count = min(end - place, depth - at)
            yield slice(at, at + count), slice(place - self.x, place - self.x + count)
            place += count


def _crops(
    image_CXYZ: NDArray[np.float32], corners: Sequence[Size3], window: Size3, pads: Sequence[tuple[int, int]]
) -> Tensor:
    """Windows (B, C, x, y, z) of the padded image; a view where nothing must be copied.

    An image that is smaller than the window is continued by its edge: zeros would be soft tissue in a prepared CT, and
    a slab of a few slices is mostly padding.
    """
    crops = []
    for corner in corners:
        at = tuple(slice(first, first + width) for first, width in zip(corner, window, strict=True))
        crop = image_CXYZ[(slice(None), *at)]
        crops.append(torch.from_numpy(crop if crop.flags.writeable else crop.copy())[None])
    crops_BCxyz = crops[0] if len(crops) == 1 else torch.cat(crops)
    around = [n for pair in reversed(pads) for n in pair]
    return F.pad(crops_BCxyz, around, mode="replicate") if any(around) else crops_BCxyz


def _zeros(shape: Sequence[int], device: torch.device) -> Tensor:
    if device.type == "cpu":
        # NumPy asks the system for large pages, which torch does not: to touch them first costs a quarter.
        return torch.from_numpy(np.zeros(shape, dtype=np.float32))
    return torch.zeros(tuple(shape), device=device)
