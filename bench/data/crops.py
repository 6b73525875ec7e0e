"""Training crops. Crop number i of a seed is always the same, whoever computes it: no state, no order, no rank."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.augment import TURN_SHARE, Turn, blur_and_bend, vary
from bench.data.grid import Shape3
from bench.data.prepared import PreparedArrays

AUGMENT = ("none", "light", "full")
#: Bytes of a mapped file that a process may hold while it cuts.
_LOOKED_AT = 4 << 20


class CropSampler:
    """Crops of prepared cases.

    crop is the size (X, Y, Z); foreground is the share of crops that hold a foreground voxel for certain, with every
    label of the case equally often. augment `light` changes intensities; `full` also gamma and sharpness, and turns
    and zooms some crops; `none` changes nothing. flips are the axes that may be mirrored besides: none unless asked
    for, since a mirrored liver is a spleen in all but size. Every case comes once in each round of len(cases) indices.
    """

    def __init__(
        self,
        cases: Sequence[PreparedArrays],
        crop: Sequence[int],
        seed: int,
        foreground: float = 0.5,
        flips: Sequence[int] = (),
        augment: str = "light",
    ) -> None:
        if not cases:
            raise ValueError("no case to take crops from; the split's training side is empty")
        if len(crop) != 3 or min(crop) < 1:
            raise ValueError(f"crop size {tuple(crop)} must be three numbers above 0")
        if augment not in AUGMENT:
            raise ValueError(f"unknown augmentation {augment!r}; known: {', '.join(AUGMENT)}")
        self.cases = tuple(cases)
        self.crop: Shape3 = (int(crop[0]), int(crop[1]), int(crop[2]))
        self.seed = seed
        self.foreground = foreground
        self.flips = tuple(flips)
        self.augment = augment

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Crop number `index`: image (C, X, Y, Z) float32 and label (X, Y, Z) uint8. Depends on seed and index only.

        Safe to call from many threads.
        """
        case = self.cases[self._case_of(index)]
        rng = np.random.default_rng([self.seed, index, 1])
        corner, pivot = self._place(case, rng)
        image, label = self._taken(case, corner, pivot, rng)
        axes = tuple(axis for axis in self.flips if rng.random() < 0.5)
        image = np.ascontiguousarray(np.flip(image, tuple(axis + 1 for axis in axes)))
        if self.augment == "full":
            image = blur_and_bend(image, rng)
        if self.augment != "none":
            image = vary(image, rng)
        return image, np.ascontiguousarray(np.flip(label, axes))

    def _taken(
        self, case: PreparedArrays, corner: Sequence[int], pivot: Sequence[float], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        image, label = partial(_cut, case.image_path), partial(_cut, case.label_path)
        if self.augment == "full" and rng.random() < TURN_SHARE:
            spacing = case.grid.spacing
            return Turn.draw(rng, spacing).cut(image, label, corner, self.crop, pivot, spacing)
        return image(corner, self.crop), label(corner, self.crop)

    def _case_of(self, index: int) -> int:
        turn, place = divmod(index, len(self.cases))
        return int(np.random.default_rng([self.seed, turn, 0]).permutation(len(self.cases))[place])

    def _place(self, case: PreparedArrays, rng: np.random.Generator) -> tuple[list[int], list[float]]:
        """The crop's first voxel, outside the volume where the volume is smaller than the crop; and a voxel that it is
        about: of the foreground, or its middle.
        """
        free = [n - c for n, c in zip(case.shape, self.crop, strict=True)]
        corner = [int(rng.integers(min(f, 0), max(f, 0) + 1)) for f in free]
        positions = _positions(case.positions_path)
        if rng.random() >= self.foreground or not positions:
            return corner, [k + (c - 1) / 2 for k, c in zip(corner, self.crop, strict=True)]
        of_label = positions[rng.integers(len(positions))]
        centre = of_label[rng.integers(len(of_label))]
        around = [int(p - rng.integers(c // 4, c - c // 4)) for p, c in zip(centre, self.crop, strict=True)]
        corner = [min(max(a, 0), f) if f > 0 else c for a, f, c in zip(around, free, corner, strict=True)]
        return corner, [float(p) for p in centre]


@lru_cache(maxsize=256)
def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


@lru_cache(maxsize=4096)
def _positions(path: Path) -> list[np.ndarray]:
    """Foreground positions (N, 3) of each label that the case has."""
    rows = np.load(path)
    return [rows[rows[:, 0] == value, 1:] for value in np.unique(rows[:, 0])]


def _cut(path: Path, corner: Sequence[int], size: Shape3) -> np.ndarray:
    """A copy of a box of the last three axes, continued by its edge where it leaves the array, as windows are."""
    array = _mapped(path)
    sides = array.shape[-3:]
    first = [min(max(s, 0), n) for s, n in zip(corner, sides, strict=True)]
    ends = [max(min(s + c, n), f) for s, c, n, f in zip(corner, size, sides, first, strict=True)]
    out = np.empty((*array.shape[:-3], *(e - f for e, f in zip(ends, first, strict=True))), dtype=array.dtype)
    inner = tuple(map(slice, first[1:], ends[1:]))
    slab = max(1, _LOOKED_AT // (array.strides[-3] * (array.shape[0] if array.ndim > 3 else 1)))
    for low in range(first[0], ends[0], slab):
        high = min(low + slab, ends[0])
        target: Any = (..., slice(low - first[0], high - first[0]), slice(None), slice(None))
        source: Any = (..., slice(low, high), *inner)
        out[target] = array[source]
        _let_go(array)
    beyond = [(f - s, s + c - e) for f, s, c, e in zip(first, corner, size, ends, strict=True)]
    return np.pad(out, [(0, 0)] * (out.ndim - 3) + beyond, mode="edge") if np.any(beyond) else out


def _let_go(array: np.ndarray) -> None:
    """Give the pages that were looked at back: else a process grows by every case it ever cut from.

    They stay in the system's file cache; to look at them again costs half a millisecond a crop of 96³.
    """
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)
