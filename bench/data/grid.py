"""From a case's native grid to another one and back: orientation, crop and resampling, nothing of intensities.

Both grids cover the same box: the outer faces of the first and last voxels coincide, so that going there and back
shifts nothing. Voxel i of n sits at (i + 1/2) / n of the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# nibabel and SciPy are imported where they are used: they take 45 MB, and a process that cuts crops needs neither.

Shape3 = tuple[int, int, int]
#: First voxel and the one past the last, along each axis.
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
_RAS = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)


@dataclass(frozen=True)
class Grid:
    """How a prepared array lies in its native image.

    native_shape, affine (4, 4) and box, the content that was kept, are along the image's own axes; shape (X, Y, Z) is
    the prepared array's, along RAS axes. apart is the RAS axis along which voxels were repeated or left out instead of
    interpolated: the through-plane axis of a strongly anisotropic image.
    """

    native_shape: Shape3
    affine: tuple[tuple[float, ...], ...]
    box: Box
    shape: Shape3
    apart: int | None = None

    @classmethod
    def of(cls, body: dict[str, Any]) -> Grid:
        """The grid that `dataclasses.asdict` and JSON made `body` of."""
        return cls(**{name: tuples(value) for name, value in body.items()})

    @property
    def inside(self) -> tuple[slice, slice, slice]:
        """The box as an index of the native array's last three axes."""
        x, y, z = (slice(first, end) for first, end in self.box)
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size in mm of a prepared voxel along RAS axes."""
        affine = np.array(self.affine)
        native = np.linalg.norm(affine[:3, :3], axis=0)[list(ras_order(affine))]
        x, y, z = (native * self.box_shape / np.array(self.shape)).tolist()
        return x, y, z

    @property
    def box_shape(self) -> Shape3:
        """The box's native voxels along RAS axes."""
        x, y, z = (self.box[axis][1] - self.box[axis][0] for axis in ras_order(np.array(self.affine)))
        return x, y, z


def tuples(value: Any) -> Any:
    """JSON's lists as tuples, to any depth."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def to_native(prediction: Any, grid: Grid) -> np.ndarray:
    """A prediction on the prepared grid as labels (X, Y, Z) uint8 on the native grid; background outside the box.

    prediction, an array or a tensor, is labels (X, Y, Z), or class probabilities (K, X, Y, Z), which are resampled
    linearly before the largest is taken. Class by class, so that no more than two native volumes of floats are held.
    ValueError if its shape is not the grid's.
    """
    array = np.asarray(prediction.detach().cpu() if hasattr(prediction, "detach") else prediction)
    if array.ndim not in (3, 4) or array.shape[-3:] != grid.shape:
        raise ValueError(f"prediction of shape {array.shape} does not lie on the prepared grid {grid.shape}")
    label = resample_nearest(array, grid.box_shape) if array.ndim == 3 else _largest(array, grid)
    native = np.zeros(grid.native_shape, dtype=np.uint8)
    native[grid.inside] = from_ras(label, np.array(grid.affine))
    return native


def _largest(probability_KXYZ: np.ndarray, grid: Grid) -> np.ndarray:
    best = resample_linear(np.array(probability_KXYZ[0]), grid.box_shape, grid.apart)
    label = np.zeros(best.shape, dtype=np.uint8)
    for value in range(1, len(probability_KXYZ)):
        probability = resample_linear(np.array(probability_KXYZ[value]), grid.box_shape, grid.apart)
        wins = probability > best
        label[wins] = value
        best[wins] = probability[wins]
    return label


def to_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Turn the last three axes to run nearest to right, anterior and superior: swaps and flips, no interpolation."""
    from nibabel import io_orientation

    return _orient(array, io_orientation(affine))


def from_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The inverse of `to_ras` for a case with this affine."""
    from nibabel.orientations import io_orientation, ornt_transform

    return _orient(array, ornt_transform(_RAS, io_orientation(affine)))


def is_ras(affine: np.ndarray) -> bool:
    """Whether `to_ras` leaves an array with this affine as it is."""
    from nibabel import io_orientation

    return bool(np.array_equal(io_orientation(affine), _RAS))


def ras_order(affine: np.ndarray) -> tuple[int, int, int]:
    """For each RAS axis the native axis that becomes it."""
    from nibabel import io_orientation

    order = np.argsort(io_orientation(affine)[:, 0])
    return int(order[0]), int(order[1]), int(order[2])


def _orient(array: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    from nibabel.orientations import apply_orientation

    lead = array.ndim - 3
    moved = np.moveaxis(array, range(lead), range(-lead, 0)) if lead else array  # nibabel turns the first axes
    turned = apply_orientation(moved, orientation)
    return np.moveaxis(turned, range(-lead, 0), range(lead)) if lead else turned


def resample_nearest(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Labels (X, Y, Z) on a grid of another shape: each voxel takes the value of the voxel it lies in."""
    index = [((np.arange(n) + 0.5) * old / n).astype(int) for old, n in zip(array.shape, shape, strict=True)]
    return np.ascontiguousarray(array[np.ix_(*index)])


def resample_linear(array: np.ndarray, shape: Sequence[int], apart: int | None = None) -> np.ndarray:
    """Values (X, Y, Z) on a grid of another shape, float32, trilinear, edge voxels repeated outwards.

    Equals `scipy.ndimage.zoom(order=1, grid_mode=True, mode="nearest")`. Along the axis `apart` each voxel takes the
    value of the voxel it lies in.
    """
    out = np.asarray(array, dtype=np.float32)
    if apart is not None:
        out = resample_nearest(out, [n if axis == apart else out.shape[axis] for axis, n in enumerate(shape)])
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


def smooth_for(array: np.ndarray, shape: Sequence[int], apart: int | None = None) -> np.ndarray:
    """Blur (X, Y, Z) before it is coarsened, or linear sampling would skip voxels and pick up their noise."""
    from scipy import ndimage

    sigma = [max(0.0, (old / n - 1) / 2) for old, n in zip(array.shape, shape, strict=True)]
    if apart is not None:
        sigma[apart] = 0.0
    return ndimage.gaussian_filter(array, sigma, mode="nearest") if any(sigma) else array
