"""The settings of preprocessing, measured on the training cases of a split and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.check import case_facts, content_digest
from bench.data.content import AIR, CONTENT_VERSION, CaseContent, case_content
from bench.data.folder import Case, DataError
from bench.data.grid import ras_order
from results.record import digest_of

PREPARATION_VERSION = 2
#: An image whose voxel is more than this many times as thick as it is wide is strongly anisotropic; nnU-Net's value.
ANISOTROPY = 3.0
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Preparation:
    """How cases become arrays for the model. spacing is in mm along the RAS axes.

    With a clip (low, high) all channels are clipped to it, and mean and deviation are subtracted and divided by: CT,
    where numbers mean the same everywhere. Without one each channel of each case is standardised by itself.
    air: images are cropped to what is above it and not 0 (CT); None, to what is not 0. anisotropy: see `axis_apart`.
    """

    spacing: tuple[float, float, float]
    clip: tuple[float, float] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    air: float | None = None
    anisotropy: float = ANISOTROPY
    version: int = PREPARATION_VERSION

    @classmethod
    def of(cls, body: dict[str, Any]) -> Preparation:
        """The preparation that `dataclasses.asdict` and JSON made `body` of, as in a record's provenance."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in body.items()}
        return cls(**plain)

    def axis_apart(self, spacing: np.ndarray) -> int | None:
        """The RAS axis along which an image of this spacing (3,) is not interpolated; None if there is none.

        It is the one axis with the largest voxels, in the image or else in the preparation, where the smallest ones
        are smaller by more than `anisotropy` (0: never). Slices far apart show different anatomy, and a mean of two
        is a slice of neither. The rule is nnU-Net's (`determine_do_sep_z_and_axis`).
        """
        for sizes in (np.asarray(spacing), np.array(self.spacing)):
            if self.anisotropy and sizes.max() / sizes.min() > self.anisotropy:
                thick = np.flatnonzero(np.isclose(sizes, sizes.max(), rtol=1e-3))
                return int(thick[0]) if len(thick) == 1 else None
        return None

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits over every setting."""
        return digest_of(asdict(self))


def fit_preparation(
    train: Sequence[Case],
    modality: str,
    max_voxels: int = 0,
    window: tuple[float, float] | None = None,
    anisotropy: float = ANISOTROPY,
) -> Preparation:
    """The preparation for a split, from its training cases; remembered in the cache folder by their content.

    The spacing is their median (see `_target_spacing`), coarsened, finest axis first, until their median content has
    at most max_voxels voxels (0: no bound). Modality "CT" is clipped and scaled by the training foreground, or, with a
    window (low, high) in Hounsfield units, clipped to it and scaled to [-1, 1]; other modalities have no window.
    """
    asked = [max_voxels, window if modality == "CT" else None, anisotropy]
    key = digest_of([PREPARATION_VERSION, CONTENT_VERSION, content_digest(train), modality, asked], 32)
    target = cache_dir() / "preparations" / f"{key}.json"
    if not target.is_file():
        fitted = _fit(train, modality, max_voxels, window, anisotropy)
        write_once(target, lambda path: _write(path, fitted))
    return Preparation.of(json.loads(target.read_text()))


def air_of(modality: str) -> float | None:
    """The value above which an image of this modality has content; None where it is all that is not 0."""
    return AIR if modality == "CT" else None


def _write(path: Path, preparation: Preparation) -> None:
    path.write_text(json.dumps(asdict(preparation)))


def _fit(
    train: Sequence[Case], modality: str, max_voxels: int, window: tuple[float, float] | None, anisotropy: float
) -> Preparation:
    if not train:
        raise DataError("no training case: a split needs one or more")
    air = air_of(modality)
    contents = [case_content(case, air) for case in train]
    spacing = _target_spacing(train, contents, max_voxels, anisotropy)
    if modality != "CT":
        return Preparation(spacing, anisotropy=anisotropy)
    if window:
        low, high = map(float, window)
        mean, deviation = (low + high) / 2, (high - low) / 2
    else:
        low, high, mean, deviation = _statistics(contents, train[0].label.parent)
    return Preparation(spacing, (low, high), mean, deviation, air, anisotropy)


def _statistics(contents: Sequence[CaseContent], where: Path) -> tuple[float, float, float, float]:
    """Low and high percentile, mean and deviation of the foreground."""
    voxels = np.concatenate([content.values for content in contents])
    if not voxels.size:
        raise DataError(f"{where}: no training case has any foreground; CT is scaled by it")
    low, high = (float(v) for v in np.percentile(voxels, _PERCENTILES))
    clipped = np.clip(voxels.astype(np.float64), low, high)
    return low, high, float(clipped.mean()), max(float(clipped.std()), 1e-6)


def _target_spacing(
    train: Sequence[Case], contents: Sequence[CaseContent], max_voxels: int, anisotropy: float
) -> tuple[float, float, float]:
    """The median spacing along RAS axes, coarsened to max_voxels.

    Where it and the median shape are strongly anisotropic the thick axis takes the 10th percentile instead, but never
    less than the other axes have. The rule is nnU-Net's (`determine_fullres_target_spacing`).
    """
    spacings, extents = [], []
    for case, content in zip(train, contents, strict=True):
        fact = case_facts(case)
        order = list(ras_order(np.array(fact.affine)))
        spacings.append(np.array(fact.spacing)[order])
        extents.append(np.array([end - first for first, end in content.box])[order] * spacings[-1])
    spacing, extent = np.median(spacings, axis=0), np.median(extents, axis=0)
    thick = int(spacing.argmax())
    others = [axis for axis in range(3) if axis != thick]
    voxels = extent / spacing
    wide = spacing[others].max()
    if anisotropy and spacing[thick] > anisotropy * wide and voxels[thick] * anisotropy < voxels[others].min():
        spacing[thick] = max(float(np.percentile([row[thick] for row in spacings], 10)), wide)
    x, y, z = coarsen(spacing, extent, max_voxels).round(6).tolist() if max_voxels else spacing.round(6).tolist()
    return x, y, z


def coarsen(spacing: np.ndarray, extent: np.ndarray, max_voxels: int) -> np.ndarray:
    """The least coarse spacing (3,) in mm at which a box of `extent` mm has at most max_voxels voxels.

    The finest axis grows first until it meets the next one, then both grow together.
    """
    spacing = np.array(spacing, dtype=float)
    for _ in range(3):
        excess = float(np.prod(extent / spacing)) / max_voxels
        if excess <= 1:
            break
        finest = np.isclose(spacing, spacing.min())
        next_finest = float(spacing[~finest].min()) if not finest.all() else np.inf
        spacing[finest] = min(float(spacing.min()) * excess ** (1 / finest.sum()), next_finest)
    return spacing
