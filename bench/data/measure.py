"""One reading of the files of a case: what they hold, and what is wrong with them whatever the task is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.data.channels import AFFINE_TOLERANCE, affine_gap, voxel_digests
from bench.data.geometry import spacing_of
from bench.data.nifti import DataError, Nifti, read_nifti

#: Percentiles are taken over at most so many voxels of a channel, evenly spread.
_SAMPLE = 1_000_000
_PERCENTILES = (0.5, 50, 99.5)
#: Label values are counted by index up to so many of them, and voxels so many at a time.
_VALUES, _CHUNK = 1 << 16, 1 << 20

#: The number of the file in `files_of(case)`, and one line about it that does not repeat its path.
Remark = tuple[int, str]


class Intensity(NamedTuple):
    """The finite values of one channel of one case; low, median and high are the percentiles 0.5, 50 and 99.5."""

    minimum: float
    low: float
    median: float
    mean: float
    high: float
    maximum: float


@dataclass(frozen=True)
class CaseFacts:
    """What one reading of a case's files tells; nothing here depends on how the task is described.

    shape (X, Y, Z), affine (4, 4) and spacing in mm are the image's, on the native grid. counts maps each label value
    to its number of voxels. errors are whole lines of files that could not be read; the other fields are empty then.
    voxel_digests: of each channel's values alone (`bench.data.channels.voxel_digests`). faults forbid to use the case,
    notices do not.
    """

    errors: tuple[str, ...] = ()
    image_digest: str = ""
    label_digest: str = ""
    channels: int = 0
    shape: tuple[int, ...] = ()
    affine: tuple[tuple[float, ...], ...] = ()
    spacing: tuple[float, ...] = ()
    intensity: tuple[Intensity, ...] = ()
    counts: dict[int, int] = field(default_factory=dict)
    voxel_digests: tuple[tuple[str, ...], ...] = ()
    faults: tuple[Remark, ...] = ()
    notices: tuple[Remark, ...] = ()


def measure(paths: tuple[Path, ...]) -> CaseFacts:
    """One file after the other, so that only one of them and the label are in memory."""
    errors: list[str] = []
    label = _read(paths[-1], errors)
    images = [_Measured.of(found) if (found := _read(path, errors)) else None for path in paths[:-1]]
    if label is None or not all(images):
        return CaseFacts(errors=tuple(errors))
    whole = [image for image in images if image]
    fractional, counts = _label_values(label.array)
    first, drawn = whole[0], _Grid(label.array.shape, label.affine, label.faults, label.notices)
    faults = [*_image_faults(whole), *_of(len(whole), drawn.faults), *_off_grid(first.grid, drawn, len(whole), "image")]
    if fractional is not None:
        text = f"label value {fractional:.9g} is not an integer; save labels without interpolation"
        faults.append((len(whole), text))
    digests = [image.digest for image in whole]
    return CaseFacts(
        image_digest=digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        label_digest=label.digest,
        channels=sum(len(image.intensity) for image in whole),
        shape=first.grid.shape,
        affine=tuple(tuple(float(x) for x in row) for row in first.grid.affine),
        spacing=spacing_of(first.grid.affine),
        intensity=tuple(channel for image in whole for channel in image.intensity),
        counts=counts,
        voxel_digests=tuple(digest for image in whole for digest in image.voxel_digests),
        faults=tuple(faults),
        notices=(*_image_notices(whole), *_of(len(whole), drawn.notices)),
    )


def _read(path: Path, errors: list[str]) -> Nifti | None:
    try:
        return read_nifti(path, strict=False)
    except DataError as error:
        errors.append(str(error))
        return None


class _Grid(NamedTuple):
    shape: tuple[int, ...]
    affine: np.ndarray
    faults: tuple[str, ...]
    notices: tuple[str, ...]


class _Measured(NamedTuple):
    """One image file, its array left behind."""

    grid: _Grid
    digest: str
    nonfinite: int
    intensity: tuple[Intensity, ...]
    voxel_digests: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, image: Nifti) -> _Measured:
        array = image.array
        channels = [array[..., c] for c in range(array.shape[3])] if array.ndim == 4 else [array]
        shape = array.shape[:3] if array.ndim <= 4 else array.shape
        whole = array.dtype.kind in "iu"
        nonfinite = 0 if whole else int(array.size - np.count_nonzero(np.isfinite(array)))
        intensity = tuple(_intensity(channel if not nonfinite else _finite(channel)) for channel in channels)
        grid = _Grid(shape, image.affine, image.faults, image.notices)
        digests = voxel_digests(array, None if image.faults else image.affine) if len(shape) == 3 else ()
        return cls(grid, image.digest, nonfinite, intensity, digests)


def _finite(array: np.ndarray) -> np.ndarray:
    kept = array[np.isfinite(array)]
    return kept if kept.size else np.zeros(1, array.dtype)


def _intensity(channel: np.ndarray) -> Intensity:
    flat = channel.ravel(order="K")  # files run along the first axis: no copy
    low, median, high = np.percentile(flat[:: -(-flat.size // _SAMPLE)], _PERCENTILES)
    mean = flat.mean(dtype=np.float64)
    return Intensity(*(float(v) for v in (flat.min(), low, median, mean, high, flat.max())))


def _of(number: int, texts: Iterable[str]) -> list[Remark]:
    return [(number, text) for text in texts]


def _image_faults(images: list[_Measured]) -> Iterable[Remark]:
    for number, image in enumerate(images):
        shape = image.grid.shape
        yield from _of(number, image.grid.faults)
        if len(shape) != 3:
            yield number, f"shape {shape} is no volume; give an image of three axes, or four with channels last"
        if image.nonfinite:
            yield number, f"{image.nonfinite} voxel(s) are NaN or infinite; replace them with a number"
        if number:
            yield from _off_grid(images[0].grid, image.grid, number, "first channel")
    channels = [channel for image in images for channel in image.intensity]
    if all(c.minimum == c.maximum for c in channels) and not any(image.nonfinite for image in images):
        value = channels[0].minimum
        yield 0, f"image is constant (every voxel is {value:g}); fetch or convert it again, or remove the case"


def _image_notices(images: list[_Measured]) -> Iterable[Remark]:
    several = sum(len(image.intensity) for image in images) > 1
    for number, image in enumerate(images):
        yield from _of(number, image.grid.notices)
        for index, channel in enumerate(image.intensity):
            if several and channel.minimum == channel.maximum:
                which = f"channel {index} of the file" if len(image.intensity) > 1 else "channel"
                yield number, f"{which} is constant (every voxel is {channel.minimum:g})"


def _off_grid(image: _Grid, other: _Grid, number: int, whose: str) -> Iterable[Remark]:
    """What is wrong if the other file does not lie on the image's grid."""
    if len(image.shape) != 3:
        return
    if other.shape != image.shape:
        yield number, f"shape {other.shape} differs from its {whose}'s {image.shape}; draw it on the same grid"
    elif (
        not image.faults
        and not other.faults
        and (gap := affine_gap(image.shape, image.affine, other.affine)) > AFFINE_TOLERANCE
    ):
        yield number, f"affine lies {gap:.1f} voxels off its {whose}'s; save it with the {whose}'s affine"


def _label_values(array: np.ndarray) -> tuple[float | None, dict[int, int]]:
    """(a value that is no integer, or None; voxels by integer value)."""
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            rounded = array.astype(np.int32)
        if not np.array_equal(rounded, array):
            return _odd_values(array)
        array = rounded
    low, high = int(array.min()), int(array.max())
    if high - low >= _VALUES:
        return _odd_values(array)
    counts = np.zeros(high - low + 1, dtype=np.int64)
    flat = array.ravel(order="K")
    for start in range(0, flat.size, _CHUNK):  # bincount makes 8 bytes of each voxel
        counts += np.bincount(flat[start : start + _CHUNK].astype(np.int64) - low, minlength=counts.size)
    return None, {low + int(v): int(counts[v]) for v in np.flatnonzero(counts)}


def _odd_values(array: np.ndarray) -> tuple[float | None, dict[int, int]]:
    values, numbers = np.unique(array, return_counts=True)
    whole = np.isfinite(values) & (values == np.round(values))
    odd = [float(v) for v in values[~whole]]
    return (odd[0] if odd else None), {int(v): int(n) for v, n in zip(values[whole], numbers[whole], strict=True)}
