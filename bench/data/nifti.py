"""Read one NIfTI file whole: its bytes, its digest, its array and its geometry in a single pass.

nibabel reads the header. What it mends in silence (a voxel size of 0 becomes 1 mm) is told here instead, as it moves
every distance that is measured later. It is imported with the first file: commands that read none start sooner.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.data.geometry import Geometry, geometry_of, spacing_of

if TYPE_CHECKING:
    import nibabel as nib

__all__ = ["DataError", "Nifti", "read_nifti", "spacing_of"]

_GZIP = b"\x1f\x8b"
_UNHEARD = logging.Logger("what nibabel mends in a header", level=logging.CRITICAL + 1)


class DataError(ValueError):
    """Data that cannot be used. The text names the file, what was found and what would work."""


class Nifti(NamedTuple):
    """One file. array has the file's axes and, unless it has a scale factor, the file's type in native byte order.

    affine (4, 4) maps voxel indices to millimetres, RAS+. digest is the SHA-256 of the uncompressed file, so that the
    same image compressed anew is still the same image. faults and notices are of the geometry, without the path.
    """

    array: np.ndarray
    affine: np.ndarray
    digest: str
    faults: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def read_nifti(path: Path, strict: bool = True) -> Nifti:
    """Read `.nii` or `.nii.gz`: (X, Y, Z), or (X, Y, Z, C); axes of length 1 after the third are dropped.

    DataError if it is missing, truncated, damaged or no NIfTI file; if strict, also if its geometry is none.
    """
    from nibabel.spatialimages import HeaderDataError

    raw = _read_bytes(path)
    header = _header_of(raw, path)
    pixdim = tuple(float(size) for size in header["pixdim"][1:4])  # as they stand, before nibabel mends them
    try:
        header.check_fix(logger=_UNHEARD, error_level=40)
        array = _array_of(raw, header, path)
    except HeaderDataError as error:
        raise DataError(f"{path}: damaged NIfTI header ({_short(error)}); fetch or convert it again") from error
    found: Geometry = geometry_of(header, pixdim)
    if strict and found.faults:
        raise DataError("\n".join(f"{path}: {fault}" for fault in found.faults))
    return Nifti(array, found.affine, hashlib.sha256(raw).hexdigest(), found.faults, found.notices)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise DataError(f"{path}: is no file; give a .nii or .nii.gz file")
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == _GZIP else raw
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; restore it, or remove the case that names it") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged gzip file ({_short(error)}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_short(error)}); check the path and its permissions") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory; crop or resample it, or use a larger machine") from error


def _header_of(raw: bytes, path: Path) -> nib.Nifti1Header:
    import nibabel as nib

    kinds = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    sizes = (int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big"))
    kind = next((kinds[size] for size in sizes if size in kinds), None)
    if kind is None:
        raise DataError(f"{path}: not a NIfTI file (it starts with {raw[:4]!r}); give a .nii or .nii.gz file")
    if len(raw) < kind.sizeof_hdr:
        raise DataError(f"{path}: truncated or damaged NIfTI file ({len(raw)} bytes in all); fetch it again")
    header = kind(raw[: kind.sizeof_hdr], check=False)
    magic = header["magic"].item()
    if magic == header.pair_magic:
        raise DataError(f"{path}: header of a .hdr and .img pair; convert the pair to one .nii file")
    if magic != header.single_magic:
        raise DataError(f"{path}: not a NIfTI file (its magic is {magic!r}, not b'n+1'); convert it to .nii or .nii.gz")
    return header


def _array_of(raw: bytes, header: nib.Nifti1Header, path: Path) -> np.ndarray:
    from nibabel.volumeutils import apply_read_scaling

    shape, kind = header.get_data_shape(), header.get_data_dtype()
    if kind.fields or kind.kind not in "iuf":
        named = "colours" if kind.fields else f"values of type {kind}"
        raise DataError(f"{path}: holds {named}; save real numbers, one channel each")
    if not shape or min(shape) < 1:
        raise DataError(f"{path}: shape {shape} holds no voxel; fetch or convert it again")
    start = header.get_data_offset() or header.single_vox_offset
    end = start + math.prod(shape) * kind.itemsize
    if len(raw) < end:
        raise DataError(f"{path}: truncated or damaged NIfTI file ({len(raw)} of {end} bytes); fetch it again")
    stored = np.frombuffer(raw, kind, math.prod(shape), start).reshape(_without_ones(shape), order="F")
    slope, inter = header.get_slope_inter()
    native = stored.astype(kind.newbyteorder("="), copy=False)
    return native if slope is None else apply_read_scaling(native, np.float64(slope), np.float64(inter))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Time or vector axes of length 1 are no channels: (X, Y, Z, 1, C) is (X, Y, Z, C), and (X, Y, Z, 1) a volume."""
    return (*shape[:3], *(size for size in shape[3:] if size != 1))


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
