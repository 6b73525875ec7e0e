"""Sliding windows: a network's outputs for overlapping windows, blended with a Gaussian, a slab of planes at a time.

Only the planes that further windows may still change are held as sums. Positions, padding and weights are those of
MONAI's `sliding_window_inference(mode="gaussian")`, so that the results are the same.
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

#: Windows (B, C, x, y, z) in, what is to be blended (B, K, x, y, z) float32 out, on any device.
Predictor = Callable[[Tensor], Tensor]
#: Called after each batch with the windows that are done and all that there are.
OnWindows = Callable[[int, int], None]


def blend(
    predictor: Predictor, image_CXYZ: NDArray[np.float32], window: Size3, overlap: float, batch: int = 1
) -> Tensor:
    """The blended output (K, X, Y, Z) for a whole image, held at once; `slabs` gives the same in less memory."""
    blended = _Blended(image_CXYZ.shape[1:], window, overlap, whole=True)
    for _ in blended.slabs(predictor, image_CXYZ, batch):
        pass
    return blended.sums[(slice(None), *blended.inside)]


def slabs(
    predictor: Predictor,
    image_CXYZ: NDArray[np.float32],
    window: Size3,
    overlap: float,
    batch: int = 1,
    on_windows: OnWindows | None = None,
) -> Iterator[Tensor]:
    """The blended output a few planes at a time, (K, n, Y, Z) float32, in the order of the first axis.

    overlap is that of neighbouring windows, as a share of the window; batch is how many windows the predictor gets at
    a time. A slab is a view, gone once the next one is asked for. An image smaller than the window is padded with
    zeros on both sides. Held are at most K + 3 arrays of the window's first side by Y by Z, on the predictor's device.
    """
    return _Blended(image_CXYZ.shape[1:], window, overlap).slabs(predictor, image_CXYZ, batch, on_windows)


def starts(side: int, width: int, overlap: float) -> list[int]:
    """The first voxels of the windows along one axis; the last window is flush with the end."""
    step = max(1, int(width * (1 - overlap)))
    return [*range(0, side - width, step), max(0, side - width)]


def gaussian(window: Size3) -> Tensor:
    """Weights (X, Y, Z) with a standard deviation of an eighth of each side, at least 1e-3 everywhere."""
    x, y, z = (torch.exp(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in window)
    return (x[:, None, None] * y[:, None] * z).clamp_min(1e-3)


class _Blended:
    """Weighted sums on a ring of planes: plane x of the padded image lies at x modulo the ring's depth."""

    sums: Tensor
    weight: Tensor
    row_weight: Tensor

    def __init__(self, size: Sequence[int], window: Size3, overlap: float, whole: bool = False) -> None:
        self.window, self.whole = window, whole
        padded = [max(pair) for pair in zip(size, window, strict=True)]
        self.before = [(large - side) // 2 for large, side in zip(padded, size, strict=True)]
        self.inside = tuple(slice(b, b + side) for b, side in zip(self.before, size, strict=True))
        self.pads = [(b, large - side - b) for b, large, side in zip(self.before, padded, size, strict=True)]
        self.xs, *across = (starts(large, width, overlap) for large, width in zip(padded, window, strict=True))
        self.rows = list(itertools.product(*across))
        self.padded = padded
        self.depth = padded[0] if whole else window[0]

    def slabs(
        self, predictor: Predictor, image_CXYZ: NDArray[np.float32], batch: int, on_windows: OnWindows | None = None
    ) -> Iterator[Tensor]:
        """Predict, add up, and give what is finished. One call a `_Blended`."""
        corners = [(x, *row) for x in self.xs for row in self.rows]
        done = 0  # planes
        for place in range(0, len(corners), batch):
            some = corners[place : place + batch]
            outputs = predictor(self._crops(image_CXYZ, some))
            if place == 0:
                self._allocate(outputs)
            for corner, output_Kxyz in zip(some, outputs, strict=True):
                if corner[0] > done:
                    yield from self._finish(done, corner[0])
                    done = corner[0]
                self._add(corner, output_Kxyz)
            del outputs, output_Kxyz  # before the next ones are made: they may then lie in the same, warm memory
            if on_windows:
                on_windows(place + len(some), len(corners))
        yield from self._finish(done, self.padded[0])

    def _crops(self, image_CXYZ: NDArray[np.float32], corners: list[tuple[int, ...]]) -> Tensor:
        """(B, C, x, y, z); where nothing must be copied it is a view."""
        crops = []
        for corner in corners:
            at = tuple(slice(first, first + width) for first, width in zip(corner, self.window, strict=True))
            crop = image_CXYZ[(slice(None), *at)]
            crops.append(torch.from_numpy(crop if crop.flags.writeable else crop.copy())[None])
        crops_BCxyz = crops[0] if len(crops) == 1 else torch.cat(crops)
        if any(map(any, self.pads)):
            return F.pad(crops_BCxyz, [side for pair in reversed(self.pads) for side in pair])
        return crops_BCxyz

    def _allocate(self, outputs_BKxyz: Tensor) -> None:
        where = outputs_BKxyz.device
        self.weight = gaussian(self.window).to(where)
        self.one = torch.ones((), device=where)
        self.sums = _zeros((outputs_BKxyz.shape[1], self.depth, *self.padded[1:]), where)
        self.row_weight = _zeros((self.window[0], *self.padded[1:]), where)
        for y, z in self.rows:
            self.row_weight[:, y : y + self.window[1], z : z + self.window[2]] += self.weight

    def _add(self, corner: tuple[int, ...], output_Kxyz: Tensor) -> None:
        x, y, z = corner
        _, height, length = self.window
        for ring, part in self._pieces(x, x + self.window[0]):
            at = (slice(1, None), ring, slice(y, y + height), slice(z, z + length))
            self.sums[at].addcmul_(output_Kxyz[1:, part], self.weight[part])

    def _finish(self, first: int, end: int) -> Iterator[Tensor]:
        """Divide planes first to end by the weights they were added up with; the ring is then free for later ones."""
        weight = self.row_weight.new_zeros((end - first, *self.row_weight.shape[1:]))
        for x in self.xs:
            low, high = max(first, x), min(end, x + self.window[0])
            if low < high:
                weight[low - first : high - first] += self.row_weight[low - x : high - x]
        for ring, part in self._pieces(first, end):
            slab = self.sums[:, ring]
            slab[1:] /= weight[part]
            torch.sub(self.one, slab[1:].sum(0) if len(slab) > 2 else slab[1], out=slab[0])
            if not self.whole:
                yield slab[(slice(None), *self.inside)] if self.pads[0] != (0, 0) else slab[(..., *self.inside[1:])]
                if end < self.padded[0]:
                    slab[1:].zero_()

    def _pieces(self, first: int, end: int) -> Iterator[tuple[slice, slice]]:
        """Planes first to end as slices of the ring, each with its place counted from first."""
        place = first
        while place < end:
            at = place % self.depth
            count = min(end - place, self.depth - at)
            yield slice(at, at + count), slice(place - first, place - first + count)
            place += count


def _zeros(shape: Sequence[int], device: torch.device) -> Tensor:
    # NumPy asks the system for large pages, which torch does not: the first touch of each page costs a quarter.
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, dtype=np.float32))
    return torch.zeros(tuple(shape), device=device)
