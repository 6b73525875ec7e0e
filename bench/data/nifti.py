"""Read one NIfTI file whole: its bytes, its digest and its array in a single pass."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

_GZIP = b"\x1f\x8b"
_CLASSES = {348: nib.Nifti1Image, 540: nib.Nifti2Image}


class DataError(ValueError):
    """Data that cannot be used. The text names the file, what was found and what would work."""


class Nifti(NamedTuple):
    """One file. array has the file's axes and, unless it has a scale factor, the file's type.

    affine (4, 4) maps voxel indices to millimetres, RAS+. digest is the SHA-256 of the uncompressed file, so that the
    same image compressed anew is still the same image.
    """

    array: np.ndarray
    affine: np.ndarray
    digest: str


def read_nifti(path: Path) -> Nifti:
    """Read `.nii` or `.nii.gz`; DataError if it is missing, truncated, damaged or no NIfTI file."""
    raw = _read_bytes(path)
    try:
        image = _class_of(raw, path).from_bytes(raw)
        array = np.asanyarray(image.dataobj)
    except DataError:
        raise
    except Exception as error:  # nibabel raises many kinds for a damaged header or a short file
        raise DataError(f"{path}: truncated or damaged NIfTI file ({_short(error)}); fetch it again") from error
    return Nifti(array, np.asarray(image.affine, dtype=np.float64), hashlib.sha256(raw).hexdigest())


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == _GZIP else raw
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; the task lists it, so restore it or remove its entry") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged gzip file ({_short(error)}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_short(error)}); check the path and its permissions") from error


def _class_of(raw: bytes, path: Path) -> type[nib.Nifti1Image]:
    sizes = (int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big"))
    for size in sizes:
        if size in _CLASSES:
            return _CLASSES[size]
    raise DataError(f"{path}: not a NIfTI file (it starts with {raw[:4]!r}); give a .nii or .nii.gz file")


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel size in millimetres along the three array axes of an affine (4, 4)."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)
