"""Training crops. Crop number i of a seed is always the same, whoever computes it: no state, no order, no rank."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.grid import Shape3
from bench.data.volumes import PreparedCase

#: Intensity augmentation of a prepared image: scale as in nnU-Net; shift and noise in standard deviations. The shift is
#: wide since scanners, sequences and contrast phases move whole organs by that much.
_SCALE, _SHIFT, _NOISE = 0.25, 0.5, 0.1


class CropSampler:
    """Crops of prepared cases.

    crop is the size (X, Y, Z); foreground is the share of crops that hold a foreground voxel for certain, with every
    label of the case equally often; flips are the axes that may be mirrored: none unless asked for, since a mirrored
    liver is a spleen in all but size; augment adds them and changes of intensity. Every case comes once in each round
    of len(cases) indices.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        crop: Sequence[int],
        seed: int,
        foreground: float = 0.5,
        flips: Sequence[int] = (),
        augment: bool = True,
    ) -> None:
        if not cases:
            raise ValueError("no case to take crops from; the split's training side is empty")
        if len(crop) != 3 or min(crop) < 1:
            raise ValueError(f"crop size {tuple(crop)} must be three numbers above 0")
        self.cases = tuple(cases)
        self.crop: Shape3 = (int(crop[0]), int(crop[1]), int(crop[2]))
        self.seed = seed
        self.foreground = foreground
        self.flips = tuple(flips)
        self.augment = augment

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Crop number `index`: image (C, X, Y, Z) float32 and label (X, Y, Z) uint8. Depends on seed and index only."""
        case = self.cases[self._case_of(index)]
        rng = np.random.default_rng([self.seed, index, 1])
        corner = self._corner(case, rng)
        image = _cut(_mapped(case.image_path), corner, self.crop)
        label = _cut(_mapped(case.label_path), corner, self.crop)
        if self.augment:
            axes = tuple(axis for axis in self.flips if rng.random() < 0.5)
            image = np.flip(image, tuple(axis + 1 for axis in axes))
            label = np.flip(label, axes)
            image = _vary(np.ascontiguousarray(image), rng)
        return image, np.ascontiguousarray(label)

    def _case_of(self, index: int) -> int:
        turn, place = divmod(index, len(self.cases))
        return int(np.random.default_rng([self.seed, turn, 0]).permutation(len(self.cases))[place])

    def _corner(self, case: PreparedCase, rng: np.random.Generator) -> list[int]:
        """The crop's first voxel; outside the volume where the volume is smaller than the crop."""
        free = [n - c for n, c in zip(case.shape, self.crop, strict=True)]
        corner = [int(rng.integers(min(f, 0), max(f, 0) + 1)) for f in free]
        positions = _positions(case.positions_path)
        if rng.random() >= self.foreground or not positions:
            return corner
        of_label = positions[rng.integers(len(positions))]
        centre = of_label[rng.integers(len(of_label))]
        around = [int(p - rng.integers(c // 4, c - c // 4)) for p, c in zip(centre, self.crop, strict=True)]
        return [min(max(a, 0), f) if f > 0 else c for a, f, c in zip(around, free, corner, strict=True)]


@lru_cache(maxsize=256)
def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


@lru_cache(maxsize=4096)
def _positions(path: Path) -> list[np.ndarray]:
    """Foreground positions (N, 3) of each label that the case has."""
    rows = np.load(path)
    return [rows[rows[:, 0] == value, 1:] for value in np.unique(rows[:, 0])]


def _cut(array: np.ndarray, corner: Sequence[int], crop: Shape3) -> np.ndarray:
    """A copy of a box of the last three axes; zeros, the mean of a prepared image, where it leaves the array."""
    sizes = array.shape[-3:]
    inner = tuple(slice(max(s, 0), min(s + c, n)) for s, c, n in zip(corner, crop, sizes, strict=True))
    box: Any = (..., *inner)
    if all(s >= 0 and s + c <= n for s, c, n in zip(corner, crop, sizes, strict=True)):
        return np.array(array[box])
    out = np.zeros((*array.shape[:-3], *crop), dtype=array.dtype)
    place: Any = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inner, corner, strict=True))
    out[(..., *place)] = array[box]
    return out


def _vary(image_CXYZ: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale and shift each channel, and add noise to one crop in four."""
    scale, shift = rng.uniform(-1, 1, (2, len(image_CXYZ), 1, 1, 1)).astype(np.float32)
    image_CXYZ *= 1 + _SCALE * scale
    image_CXYZ += _SHIFT * shift
    if rng.random() < 0.25:
        image_CXYZ += np.float32(rng.uniform(0, _NOISE)) * rng.standard_normal(image_CXYZ.shape, dtype=np.float32)
    return image_CXYZ
