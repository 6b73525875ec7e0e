"""Where a prepared case lies and what it holds. Light to import: a process that only cuts crops needs NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.grid import Grid, Shape3

if TYPE_CHECKING:
    from bench.data.folder import Case


@dataclass(frozen=True)
class PreparedArrays:
    """A folder with `image.npy` (C, X, Y, Z) float32, `label.npy` (X, Y, Z) uint8 and `positions.npy` (N, 4) int32.

    Image and label lie on the prepared RAS grid; positions are foreground voxels as (label, x, y, z), the same number
    at most of each label. grid says how the arrays lie in the native image, to which predictions go back.
    """

    folder: Path
    grid: Grid

    @property
    def image_path(self) -> Path:
        return self.folder / "image.npy"

    @property
    def label_path(self) -> Path:
        return self.folder / "label.npy"

    @property
    def positions_path(self) -> Path:
        return self.folder / "positions.npy"

    @property
    def shape(self) -> Shape3:
        return self.grid.shape

    def image(self) -> np.ndarray:
        """(C, X, Y, Z) float32, read-only, memory-mapped."""
        return np.load(self.image_path, mmap_mode="r")

    def label(self) -> np.ndarray:
        """(X, Y, Z) uint8, read-only, memory-mapped."""
        return np.load(self.label_path, mmap_mode="r")

    def positions(self) -> np.ndarray:
        """(N, 4) int32: label, x, y, z."""
        return np.load(self.positions_path)


@dataclass(frozen=True)
class PreparedCase(PreparedArrays):
    """The arrays of a labelled case."""

    case: Case

    @property
    def id(self) -> str:
        return self.case.id

    @property
    def patient(self) -> str:
        return self.case.patient
