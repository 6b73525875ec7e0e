"""The channels of one image, from one file or from a file each, on one grid."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.data.grid import is_ras, to_ras
from bench.data.nifti import DataError, Nifti, read_nifti, spacing_of

#: Files whose voxels lie farther apart than this part of a voxel are on different grids.
AFFINE_TOLERANCE = 0.5


def read_channels(paths: Sequence[Path]) -> Nifti:
    """Read an image: one file as it is, several as (X, Y, Z, C) with the affine of the first.

    The digest of several files is of theirs, in order. DataError, a line a file, if any is damaged or lies on another
    grid than the first.
    """
    if len(paths) == 1:
        return read_nifti(paths[0])
    files, problems = list[Nifti](), list[str]()
    for path in paths:
        try:
            files.append(read_nifti(path))
        except DataError as error:
            problems.append(str(error))
    if not problems:
        problems = [text for n in range(1, len(paths)) if (text := _off_grid(paths, files, n))]
    if problems:
        raise DataError("\n".join(problems))
    stacked_XYZC = np.concatenate([_with_channels(file.array) for file in files], axis=3)
    digest = hashlib.sha256("\n".join(file.digest for file in files).encode()).hexdigest()
    return Nifti(stacked_XYZC, files[0].affine, digest)


def affine_gap(shape: tuple[int, ...], affine: np.ndarray, other: np.ndarray) -> float:
    """The farthest that a corner of a grid lies from itself under another affine, in the first one's finest voxel."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]])).reshape(3, -1)
    gap_mm = (affine - other) @ np.vstack([corners, np.ones(corners.shape[1])])
    finest = min(spacing_of(affine))
    gap = float(np.linalg.norm(gap_mm[:3], axis=0).max())
    return gap / finest if finest > 0 and np.isfinite(gap) else 0.0


def voxel_digests(array: np.ndarray, affine: np.ndarray | None = None) -> tuple[tuple[str, ...], ...]:
    """Digests of each channel of an image (X, Y, Z) or (X, Y, Z, C), of its values alone, whatever its type.

    One is of the array as it is stored: a copy under a made-up header has it too. With an affine (4, 4) another is of
    the array turned to RAS, if that is not the same: so has a copy along other axes. Empty for a constant channel: a
    sequence that was not taken is often stored as zeros, and is nobody's image.
    """
    channels = np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]
    ways = [channels] if affine is None or is_ras(affine) else [channels, to_ras(channels, affine)]
    each = zip(*([_voxel_digest(channel_XYZ) for channel_XYZ in way] for way in ways), strict=True)
    return tuple(tuple(dict.fromkeys(digest for digest in digests if digest)) for digests in each)


def _voxel_digest(channel_XYZ: np.ndarray) -> str:
    if channel_XYZ.size == 0 or channel_XYZ.min() == channel_XYZ.max():
        return ""
    digest = hashlib.blake2b(repr(channel_XYZ.shape).encode(), digest_size=16)
    for plane in channel_XYZ.T:  # plane by plane: a whole volume in another type would double the memory
        digest.update(np.ascontiguousarray(plane, dtype=np.float32).data)
    return digest.hexdigest()


def _off_grid(paths: Sequence[Path], files: Sequence[Nifti], number: int) -> str:
    """What is wrong with a channel's grid; empty if it is that of the first."""
    first, file = files[0], files[number]
    shapes = [_with_channels(each.array).shape[:3] if each.array.ndim in (3, 4) else () for each in (first, file)]
    if shapes[0] != shapes[1] or not shapes[0]:
        return (
            f"{paths[number]}: shape {file.array.shape} differs from {first.array.shape} of {paths[0].name}; "
            "all channels of a case must lie on one grid"
        )
    gap = affine_gap(first.array.shape, first.affine, file.affine)
    if gap > AFFINE_TOLERANCE:
        return (
            f"{paths[number]}: affine lies {gap:.1f} voxels off that of {paths[0].name}; "
            "all channels of a case must lie on one grid"
        )
    return ""


def _with_channels(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 4 else array[..., None]
