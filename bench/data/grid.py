"""From a case's native grid to another one and back: orientation and resampling, nothing of intensities.

Both grids cover the same box: the outer faces of the first and last voxels coincide, so that going there and back
shifts nothing. Voxel i of n sits at (i + 1/2) / n of the axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from scipy import ndimage

Shape3 = tuple[int, int, int]
_RAS = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)


def to_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Turn the last three axes to run nearest to right, anterior and superior: swaps and flips, no interpolation."""
    return _orient(array, nib.io_orientation(affine))


def from_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The inverse of `to_ras` for a case with this affine."""
    return _orient(array, nib.orientations.ornt_transform(_RAS, nib.io_orientation(affine)))


def ras_order(affine: np.ndarray) -> tuple[int, int, int]:
    """For each RAS axis the native axis that becomes it."""
    order = np.argsort(nib.io_orientation(affine)[:, 0])
    return int(order[0]), int(order[1]), int(order[2])


def _orient(array: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    lead = array.ndim - 3
    moved = np.moveaxis(array, range(lead), range(-lead, 0)) if lead else array  # nibabel turns the first axes
    turned = nib.orientations.apply_orientation(moved, orientation)
    return np.moveaxis(turned, range(-lead, 0), range(lead)) if lead else turned


def resample_nearest(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Labels (X, Y, Z) on a grid of another shape: each voxel takes the value of the voxel it lies in."""
    index = [((np.arange(n) + 0.5) * old / n).astype(int) for old, n in zip(array.shape, shape, strict=True)]
    return np.ascontiguousarray(array[np.ix_(*index)])


def resample_linear(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Values (X, Y, Z) on a grid of another shape, float32, trilinear, edge voxels repeated outwards.

    Equals `scipy.ndimage.zoom(order=1, grid_mode=True, mode="nearest")`.
    """
    out = np.asarray(array, dtype=np.float32)
    for axis in sorted(range(3), key=lambda axis: shape[axis] / array.shape[axis]):  # shrink first, grow last
        out = _linear_axis(out, axis, shape[axis])
    return np.ascontiguousarray(out)


def _linear_axis(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    old = array.shape[axis]
    if size == old:
        return array
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.minimum(at.astype(int), max(old - 2, 0))
    weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    below, above = array.take(low, axis), array.take(np.minimum(low + 1, old - 1), axis)
    above -= below
    above *= weight
    below += above
    return below


def smooth_for(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Blur (X, Y, Z) before it is coarsened, or linear sampling would skip voxels and pick up their noise."""
    sigma = [max(0.0, (old / n - 1) / 2) for old, n in zip(array.shape, shape, strict=True)]
    return ndimage.gaussian_filter(array, sigma, mode="nearest") if any(sigma) else array
