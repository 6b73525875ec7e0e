"""Cases made ready for the model: oriented, cropped, resampled, scaled; stored once, read through memory maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.channels import read_channels
from bench.data.check import case_facts
from bench.data.content import CONTENT_VERSION, content_box
from bench.data.folder import Case, DataError, read_case
from bench.data.grid import (
    Box,
    Grid,
    ras_order,
    resample_linear,
    resample_nearest,
    smooth_for,
    to_native,
    to_ras,
)
from bench.data.preparation import Preparation, Scale
from bench.data.prepared import PreparedArrays, PreparedCase
from results.record import digest_of

__all__ = ["PreparedCase", "prepare_case", "prepare_image", "to_native"]

#: Foreground positions kept for a label: crops are centred on them.
_POSITIONS = 4096


def prepare_case(case: Case, preparation: Preparation, cache: Path | None = None) -> PreparedCase:
    """Prepare a case, or find it prepared; safe with many writers. DataError if its files cannot be read or
    the prepared ones not be written.

    Lies in `<cache>/prepared/<digest of the file contents and the settings>/`.
    """
    folder = prepared_folder(case, preparation, cache)
    write_once(folder, lambda path: _prepare(case, preparation, path), case.id)
    return PreparedCase(folder, Grid.of(json.loads((folder / "grid.json").read_text())), case)


def prepared_folder(case: Case, preparation: Preparation, cache: Path | None = None) -> Path:
    """Where a case lies once it is prepared; DataError if its files cannot be read."""
    fact = case_facts(case)
    if fact.errors:
        raise DataError("\n".join(fact.errors))
    key = digest_of([CONTENT_VERSION, asdict(preparation), fact.image_digest, fact.label_digest], 32)
    return (cache or cache_dir()) / "prepared" / key


def prepare_image(paths: Sequence[Path], preparation: Preparation) -> tuple[np.ndarray, Grid]:
    """An image without a label, ready for the model: (C, X, Y, Z) float32 and how it lies in the native image.

    paths is one file with channels last, or a file a channel. DataError names the file that is damaged, holds NaN or
    infinity, or lies on another grid than the first.
    """
    image_CXYZ, affine = _read_image(paths)
    grid = prepared_grid(image_CXYZ, affine, preparation)
    return _image(image_CXYZ, grid, preparation), grid


def _read_image(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    if not paths:
        raise DataError("no image file given; give one file with channels last, or a file a channel")
    image = read_channels(paths)
    array_XYZC = image.array if image.array.ndim == 4 else image.array[..., None]
    if array_XYZC.ndim != 4 or 0 in array_XYZC.shape:
        raise DataError(f"{paths[0]}: shape {image.array.shape} is no volume; give three axes, or four, channels last")
    if not np.isfinite(array_XYZC).all():
        raise DataError(f"{paths[0]}: holds NaN or infinite voxels; replace them with a number")
    return np.ascontiguousarray(np.moveaxis(array_XYZC, 3, 0), dtype=np.float32), image.affine


def prepared_grid(image_CXYZ: np.ndarray, affine: np.ndarray, preparation: Preparation) -> Grid:
    """The grid of an image under a preparation: its content, oriented to RAS, at the preparation's spacing."""
    return grid_of(image_CXYZ.shape[1:], affine, content_box(image_CXYZ, preparation.ct), preparation)


def grid_of(native_shape: Sequence[int], affine: np.ndarray, box: Box, preparation: Preparation) -> Grid:
    """The prepared grid of a box of a native grid."""
    order = list(ras_order(affine))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[order]
    extent = np.array([end - first for first, end in box])[order] * spacing
    x, y, z = np.maximum(1, np.round(extent / np.array(preparation.spacing))).astype(int).tolist()
    nx, ny, nz = native_shape
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    return Grid((nx, ny, nz), rows, box, (x, y, z), preparation.axis_apart(spacing))


def _prepare(case: Case, preparation: Preparation, folder: Path) -> None:
    volume = read_case(case)
    grid = prepared_grid(volume.image, volume.affine, preparation)
    label = resample_nearest(to_ras(volume.label[grid.inside], volume.affine), grid.shape)
    image = _image(volume.image, grid, preparation)
    folder.mkdir(parents=True)
    arrays = PreparedArrays(folder, grid)
    np.save(arrays.image_path, image)  # not through a map: where the disk is full, that would end the process
    np.save(arrays.label_path, label)
    np.save(arrays.positions_path, _positions(label))
    (folder / "grid.json").write_text(json.dumps(asdict(grid)))


def _image(image_CXYZ: np.ndarray, grid: Grid, preparation: Preparation) -> np.ndarray:
    out = np.empty((len(image_CXYZ), *grid.shape), dtype=np.float32)
    scales = preparation.scales or (None,) * len(image_CXYZ)
    for channel, scale, target in zip(image_CXYZ, scales, out, strict=True):
        scaled = to_ras(_scaled(channel[grid.inside], scale), np.array(grid.affine))
        target[:] = resample_linear(smooth_for(scaled, grid.shape, grid.apart), grid.shape, grid.apart)
    return out


def _scaled(channel_XYZ: np.ndarray, scale: Scale | None) -> np.ndarray:
    if scale:
        return (np.clip(channel_XYZ, scale.low, scale.high) - scale.mean) / np.float32(scale.deviation)
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
