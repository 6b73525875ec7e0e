"""NIfTI files written byte by byte from what they should hold, without the code that reads them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

KINDS = {1: nib.Nifti1Header, 2: nib.Nifti2Header}


def write_nifti(
    path: Path,
    stored: np.ndarray,
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    order: str = "<",
    version: int = 1,
    scale: tuple[float, float] | None = None,
    pixdim: tuple[float, float, float] | None = None,
) -> Path:
    """Write stored values as they are, in byte order `<` or `>`; gzip if the name says so.

    scale is (slope, intercept). pixdim replaces the voxel sizes at the end, as a careless program would.
    """
    header = KINDS[version](endianness=order)
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header.set_qform(qform, 1 if qform is not None else 0)
    header.set_sform(sform, 2 if sform is not None else 0)
    header["scl_slope"], header["scl_inter"] = scale or (0, 0)
    start = header.single_vox_offset
    header["vox_offset"] = start
    if pixdim:
        header["pixdim"][1:4] = pixdim
    values = stored.astype(stored.dtype.newbyteorder(order)).tobytes(order="F")
    content = header.binaryblock.ljust(start, b"\0") + values
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def rotation(a: float, b: float, c: float) -> np.ndarray:
    """A rotation (3, 3) by three angles, about z, x and z."""

    def turn(angle: float, axes: tuple[int, int]) -> np.ndarray:
        matrix = np.eye(3)
        i, j = axes
        matrix[i, i] = matrix[j, j] = np.cos(angle)
        matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
        return matrix

    return turn(a, (0, 1)) @ turn(b, (1, 2)) @ turn(c, (0, 1))


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    """Write a file anew with other values, and another affine where one is given."""
    image = nib.load(path)
    array = change(np.array(image.dataobj))
    nib.save(nib.Nifti1Image(array, image.affine if affine is None else affine), path)


def set_voxel(value: float, kind: type) -> Callable[[np.ndarray], np.ndarray]:
    """A change of values for `rewrite`: of one voxel, in an array of this type."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(kind)
        array[3, 4, 5] = value
        return array

    return change


def affine_of(
    axes: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...] = (0.0, 0.0, 0.0), shear: float = 0.0
) -> np.ndarray:
    """(4, 4): axes (3, 3) times voxel sizes; shear leans the second axis towards the first, as a tangent."""
    lean = np.eye(3)
    lean[0, 1] = shear
    affine = np.eye(4)
    affine[:3, :3] = axes @ lean @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine
