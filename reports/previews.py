"""What trials left for pictures: `run/previews/<key>.npz`, and the volumes that the arms of a task share.

A preview holds `cases` (names), and for the i-th case `image_i`, `reference_i` and `prediction_i`, all (H, W) uint8,
optionally `aspect_i`, a pixel's height over its width. Newer ones also hold `labels_i` (X, Y, Z) uint8 and `volume_i`,
the name of `../volumes/<name>.npz` with `image`, `reference` (X, Y, Z) uint8 and `spacing` (3,) in mm, in RAS.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Arrays = Mapping[str, NDArray[Any]]
Read = TypeVar("Read")
_PARTS = ("image", "reference", "prediction")
_BROKEN = (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class PreviewError(ValueError):
    """A preview file that is there and cannot be used. The message names it."""


@dataclass(frozen=True)
class Slice:
    """image_HW in grey levels 0–255; reference_HW and prediction_HW hold 0 and the labels 1, 2, …"""

    image_HW: Bytes
    reference_HW: Bytes
    prediction_HW: Bytes
    aspect: float = 1.0


@dataclass(frozen=True)
class Volume:
    """A coarsened case in RAS: image_XYZ in grey levels 0–255, labels 0, 1, 2, …; spacing of its voxels in mm."""

    image_XYZ: Bytes
    reference_XYZ: Bytes
    spacing: tuple[float, float, float]


def preview_path(run: Path, key: str) -> Path:
    """Where the trial with this key leaves its pictures."""
    return Path(run) / "previews" / f"{key}.npz"


def read_slices(path: Path, wanted: Collection[str] | None = None) -> dict[str, Slice]:
    """The slices of a preview by case (only of the wanted ones, if given).

    FileNotFoundError where there is no file, PreviewError where it is damaged.
    """

    def slices(arrays: Arrays) -> dict[str, Slice]:
        names = enumerate(map(str, arrays["cases"]))
        return {name: _slice(arrays, number) for number, name in names if wanted is None or name in wanted}

    return _load(path, slices)


def volume_names(path: Path) -> dict[str, tuple[int, str]]:
    """Case → its number in the preview and its shared volume's name; nothing of an older layout. Raises as above."""

    def names(arrays: Arrays) -> dict[str, tuple[int, str]]:
        return {
            str(name): (number, _shared_name(str(arrays[f"volume_{number}"])))
            for number, name in enumerate(arrays["cases"])
            if f"volume_{number}" in arrays and f"labels_{number}" in arrays
        }

    return _load(path, names)


def read_labels(path: Path, number: int) -> Bytes:
    """The coarsened prediction (X, Y, Z) of one case. Raises as `read_slices` does."""
    return _load(path, lambda arrays: _volume_of(arrays, f"labels_{number}"))


def read_volume(preview: Path, name: str) -> Volume:
    """The shared volume that a preview names. Raises as `read_slices` does."""
    return _load(preview.parent.parent / "volumes" / f"{name}.npz", _volume)


def _load(path: Path, read: Callable[[Arrays], Read]) -> Read:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return read(arrays)
    except _BROKEN as error:
        raise PreviewError(f"preview {path} cannot be used: {error}; delete it and run its trial again") from error


def _volume(arrays: Arrays) -> Volume:
    image, reference = _volume_of(arrays, "image"), _volume_of(arrays, "reference")
    spacing = arrays["spacing"]
    if image.shape != reference.shape:
        raise ValueError(f"image {image.shape} and reference {reference.shape} differ in shape")
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"spacing {spacing} is not three positive numbers")
    x, y, z = map(float, spacing)
    return Volume(image, reference, (x, y, z))


def _volume_of(arrays: Arrays, name: str) -> Bytes:
    array = arrays[name]
    if array.ndim != 3 or array.dtype != np.uint8 or not array.size:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not uint8 of a shape (X, Y, Z)")
    return array


def _shared_name(name: str) -> str:
    if not re.fullmatch("[0-9a-f]{16}", name):
        raise ValueError(f"{name!r} names no shared volume")
    return name


def _slice(arrays: Arrays, number: int) -> Slice:
    image, reference, prediction = parts = [arrays[f"{part}_{number}"] for part in _PARTS]
    if len({part.shape for part in parts}) > 1 or parts[0].ndim != 2:
        raise ValueError(f"case {number} has arrays of shapes {[part.shape for part in parts]}, not one shape (H, W)")
    aspect = float(arrays[f"aspect_{number}"]) if f"aspect_{number}" in arrays else 1.0
    if not (np.isfinite(aspect) and aspect > 0):
        raise ValueError(f"case {number} has the aspect {aspect}, which is no positive number")
    return Slice(image, reference, prediction, aspect)
