"""The settings of preprocessing, measured on the training cases of a split and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.check import case_facts, content_digest
from bench.data.folder import Case, DataError, read_case
from bench.data.grid import ras_order
from results.record import digest_of

PREPARATION_VERSION = 1
#: As many foreground voxels of a case as nnU-Net samples: enough for percentiles, whatever the size of the organ.
_SAMPLE = 10_000
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Preparation:
    """How cases become arrays for the model. spacing is in mm along the RAS axes.

    With a clip (low, high) all channels are clipped to it, and mean and deviation are subtracted and divided by: CT,
    where numbers mean the same everywhere. Without one each channel of each case is standardised by itself.
    """

    spacing: tuple[float, float, float]
    clip: tuple[float, float] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    version: int = PREPARATION_VERSION

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits over every setting."""
        return digest_of(asdict(self))


def fit_preparation(train: Sequence[Case], modality: str, max_voxels: int = 0) -> Preparation:
    """The preparation for a split, from its training cases; remembered in the cache folder by their content.

    The spacing is their median, coarsened, finest axis first, until their median volume has at most max_voxels voxels
    (0: no bound). Modality "CT" is clipped and scaled by the training foreground.
    """
    key = digest_of([PREPARATION_VERSION, content_digest(train), modality, max_voxels], 32)
    target = cache_dir() / "preparations" / f"{key}.json"
    if not target.is_file():
        fitted = _fit(train, modality, max_voxels)
        write_once(target, lambda path: _write(path, fitted))
    body = json.loads(target.read_text())
    return Preparation(**(body | {key: tuple(body[key]) for key in ("spacing", "clip") if body[key]}))


def _write(path: Path, preparation: Preparation) -> None:
    path.write_text(json.dumps(asdict(preparation)))


def _fit(train: Sequence[Case], modality: str, max_voxels: int) -> Preparation:
    spacing = _target_spacing(train, max_voxels)
    if modality != "CT":
        return Preparation(spacing)
    voxels = np.concatenate([_foreground(case) for case in train])
    if not voxels.size:
        raise DataError(f"{train[0].label.parent}: no training case has any foreground; CT is scaled by it")
    low, high = (float(v) for v in np.percentile(voxels, _PERCENTILES))
    clipped = np.clip(voxels.astype(np.float64), low, high)
    return Preparation(spacing, (low, high), float(clipped.mean()), max(float(clipped.std()), 1e-6))


def _foreground(case: Case) -> np.ndarray:
    """At most _SAMPLE foreground voxels of every channel together, evenly spread over the case."""
    volume = read_case(case)
    values = volume.image[:, volume.label > 0].ravel()
    return values[:: max(1, values.size // _SAMPLE)][:_SAMPLE]


def _target_spacing(train: Sequence[Case], max_voxels: int) -> tuple[float, float, float]:
    if not train:
        raise DataError("no training case: a split needs one or more")
    spacings, shapes = [], []
    for case in train:
        fact = case_facts(case)
        order = list(ras_order(np.array(fact.affine)))
        spacings.append(np.array(fact.spacing)[order])
        shapes.append(np.array(fact.shape)[order])
    spacing = np.median(spacings, axis=0)
    extent = np.median(np.array(shapes) * np.array(spacings), axis=0)
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
