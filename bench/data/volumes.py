"""Cases made ready for the model: oriented, resampled, scaled; stored once, read by every trial through memory maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.check import case_facts
from bench.data.folder import Case, DataError, read_case
from bench.data.grid import Shape3, from_ras, ras_order, resample_linear, resample_nearest, smooth_for, to_ras
from bench.data.preparation import Preparation
from results.record import digest_of

#: Foreground positions kept for a label: crops are centred on them.
_POSITIONS = 4096
_FILES = ("image.npy", "label.npy", "positions.npy")


@dataclass(frozen=True)
class PreparedCase:
    """A prepared case on disk. image (C, X, Y, Z) float32 and label (X, Y, Z) uint8 lie on the prepared RAS grid.

    positions (N, 4) int32 are foreground voxels as (label, x, y, z), at most _POSITIONS a label. native_shape and
    affine are of the case's own grid, to which predictions go back.
    """

    case: Case
    image_path: Path
    label_path: Path
    positions_path: Path
    shape: Shape3
    native_shape: Shape3
    affine: tuple[tuple[float, ...], ...]

    @property
    def id(self) -> str:
        return self.case.id

    @property
    def patient(self) -> str:
        return self.case.patient

    def image(self) -> np.ndarray:
        """(C, X, Y, Z) float32, read-only, memory-mapped."""
        return np.load(self.image_path, mmap_mode="r")

    def label(self) -> np.ndarray:
        """(X, Y, Z) uint8, read-only, memory-mapped."""
        return np.load(self.label_path, mmap_mode="r")

    def positions(self) -> np.ndarray:
        """(N, 4) int32: label, x, y, z."""
        return np.load(self.positions_path)


def prepare_case(case: Case, preparation: Preparation, cache: Path | None = None) -> PreparedCase:
    """Prepare a case, or find it prepared; safe with many writers. DataError if its files cannot be read.

    Lies in `<cache>/prepared/<digest of the file contents and the settings>/`.
    """
    fact = case_facts(case)
    if fact.errors:
        raise DataError("\n".join(fact.errors))
    key = digest_of([preparation.digest, fact.image_digest, fact.label_digest], 32)
    folder = (cache or cache_dir()) / "prepared" / key
    write_once(folder, lambda path: _prepare(case, preparation, path))
    x, y, z = json.loads((folder / "shape.json").read_text())
    nx, ny, nz = fact.shape
    image, label, positions = (folder / name for name in _FILES)
    return PreparedCase(case, image, label, positions, (x, y, z), (nx, ny, nz), fact.affine)


def to_native(prediction: np.ndarray, case: PreparedCase) -> np.ndarray:
    """A prediction on the prepared grid as labels (X, Y, Z) uint8 on the native grid.

    prediction is labels (X, Y, Z), or class probabilities (K, X, Y, Z), which are resampled linearly before the
    largest is taken. Class by class, so that no more than two native volumes of floats are held.
    """
    affine = np.array(case.affine)
    shape = tuple(case.native_shape[axis] for axis in ras_order(affine))
    if prediction.ndim == 3:
        return np.ascontiguousarray(from_ras(resample_nearest(prediction, shape).astype(np.uint8), affine))
    best = resample_linear(np.array(prediction[0]), shape)
    label = np.zeros(shape, dtype=np.uint8)
    for value in range(1, len(prediction)):
        probability = resample_linear(np.array(prediction[value]), shape)
        wins = probability > best
        label[wins] = value
        best[wins] = probability[wins]
    return np.ascontiguousarray(from_ras(label, affine))


def prepared_shape(shape: tuple[int, ...], affine: np.ndarray, preparation: Preparation) -> Shape3:
    """The shape along RAS axes at the preparation's spacing, of a native grid (shape, affine)."""
    order = list(ras_order(affine))
    extent = np.array(shape)[order] * np.linalg.norm(affine[:3, :3], axis=0)[order]
    x, y, z = np.maximum(1, np.round(extent / np.array(preparation.spacing))).astype(int).tolist()
    return x, y, z


def _prepare(case: Case, preparation: Preparation, folder: Path) -> None:
    volume = read_case(case)
    shape = prepared_shape(volume.label.shape, volume.affine, preparation)
    channels = [_channel(to_ras(_scale(channel, preparation), volume.affine), shape) for channel in volume.image]
    label = resample_nearest(to_ras(volume.label, volume.affine), shape)
    folder.mkdir(parents=True)
    for name, array in zip(_FILES, (np.stack(channels), label, _positions(label)), strict=True):
        np.save(folder / name, array)
    (folder / "shape.json").write_text(json.dumps(shape))


def _channel(channel_XYZ: np.ndarray, shape: Shape3) -> np.ndarray:
    return resample_linear(smooth_for(channel_XYZ, shape), shape)


def _scale(channel_XYZ: np.ndarray, preparation: Preparation) -> np.ndarray:
    if preparation.clip:
        return (np.clip(channel_XYZ, *preparation.clip) - preparation.mean) / np.float32(preparation.deviation)
    # Skull-stripped images are 0 outside the head; those voxels would only say how much air there is.
    inside = channel_XYZ[channel_XYZ != 0]
    values = inside if inside.size else channel_XYZ
    mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return ((channel_XYZ - mean) / max(deviation, 1e-6)).astype(np.float32)


def _positions(label_XYZ: np.ndarray) -> np.ndarray:
    """(N, 4): label, x, y, z of foreground voxels, evenly spread over each label's voxels."""
    rows = []
    for value in np.unique(label_XYZ[label_XYZ > 0]):
        flat = np.flatnonzero(label_XYZ == value)
        flat = flat[np.linspace(0, flat.size - 1, min(flat.size, _POSITIONS)).astype(int)]
        rows.append(np.column_stack([np.full(flat.size, value), *np.unravel_index(flat, label_XYZ.shape)]))
    return np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, 4), np.int32)
