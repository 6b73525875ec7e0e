"""The settings of preprocessing, measured on the training cases of a split and on nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.check import case_facts, content_digest
from bench.data.content import CONTENT_VERSION, CaseContent, case_content
from bench.data.folder import Case, DataError
from bench.data.grid import ras_order
from results.record import digest_of

PREPARATION_VERSION = 3
#: An image whose voxel is more than this many times as thick as it is wide is strongly anisotropic; nnU-Net's value.
ANISOTROPY = 3.0
_PERCENTILES = (0.5, 99.5)


class Scale(NamedTuple):
    """What a channel of CT is clipped to, and what is then subtracted and divided by, in Hounsfield units."""

    low: float
    high: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class Preparation:
    """How cases become arrays for the model. spacing is in mm along the RAS axes.

    scales has an entry a channel: a Scale for CT, where numbers mean the same everywhere, and None for a channel that
    is standardised in each case by itself; so are all where it is empty. anisotropy: see `axis_apart`.
    """

    spacing: tuple[float, float, float]
    scales: tuple[Scale | None, ...] = ()
    anisotropy: float = ANISOTROPY
    version: int = PREPARATION_VERSION

    @classmethod
    def of(cls, body: dict[str, Any]) -> Preparation:
        """The preparation that `dataclasses.asdict` and JSON made `body` of, as in a record's provenance.

        DataError for one that another version of this project made, which knows other settings.
        """
        if body.get("version") != PREPARATION_VERSION:
            raise DataError(
                f"preparation of version {body.get('version')}, and this project makes {PREPARATION_VERSION}: "
                "use the version of the project that trained the model, or train it again"
            )
        scales = tuple(Scale(*scale) if scale else None for scale in body["scales"])
        x, y, z = body["spacing"]
        return cls((x, y, z), scales, body["anisotropy"])

    @property
    def ct(self) -> tuple[bool, ...]:
        """Of each channel whether it is CT; empty where none is."""
        return tuple(scale is not None for scale in self.scales)

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
    ct: Sequence[bool],
    max_voxels: int = 0,
    window: tuple[float, float] | None = None,
    anisotropy: float = ANISOTROPY,
) -> Preparation:
    """The preparation for a split, from its training cases; remembered in the cache folder by their content.

    The spacing is their median (see `_target_spacing`), coarsened, finest axis first, until their median content has
    at most max_voxels voxels (0: no bound). A channel that is CT (see `ct_channels`) is clipped and scaled by its
    training foreground, or, with a window (low, high) in Hounsfield units, clipped to it and scaled to [-1, 1].
    """
    ct = tuple(ct) if any(ct) else ()
    asked = [max_voxels, window if ct else None, anisotropy]
    key = digest_of([PREPARATION_VERSION, CONTENT_VERSION, content_digest(train), ct, asked], 32)
    target = cache_dir() / "preparations" / f"{key}.json"
    if not target.is_file():
        fitted = _fit(train, ct, max_voxels, window, anisotropy)
        write_once(target, lambda path: _write(path, fitted))
    return Preparation.of(json.loads(target.read_text()))


def ct_channels(modality: str, channels: Sequence[str]) -> tuple[bool, ...]:
    """Of each channel whether it is CT: all of a task of that modality, else those with the word CT in their name.

    nnU-Net too goes by a channel's name. A CT beside a PET keeps its Hounsfield units so.
    """
    return tuple(modality == "CT" or "ct" in re.split("[^a-z0-9]+", channel.lower()) for channel in channels)


def _write(path: Path, preparation: Preparation) -> None:
    path.write_text(json.dumps(asdict(preparation)))


def _fit(
    train: Sequence[Case], ct: tuple[bool, ...], max_voxels: int, window: tuple[float, float] | None, anisotropy: float
) -> Preparation:
    if not train:
        raise DataError("no training case: a split needs one or more")
    contents = [case_content(case, ct) for case in train]
    spacing = _target_spacing(train, contents, max_voxels, anisotropy)
    scales = [
        _scale(contents, channel, window, train[0].label.parent) if is_ct else None for channel, is_ct in enumerate(ct)
    ]
    return Preparation(spacing, tuple(scales), anisotropy)


def _scale(contents: Sequence[CaseContent], channel: int, window: tuple[float, float] | None, where: Path) -> Scale:
    """To [-1, 1] by the window, else by the percentiles, mean and deviation of the channel's foreground."""
    if window:
        low, high = map(float, window)
        return Scale(low, high, (low + high) / 2, (high - low) / 2)
    voxels = np.concatenate([content.values_CN[channel] for content in contents])
    if not voxels.size:
        raise DataError(f"{where}: no training case has any foreground; CT is scaled by it")
    low, high = (float(v) for v in np.percentile(voxels, _PERCENTILES))
    clipped = np.clip(voxels.astype(np.float64), low, high)
    return Scale(low, high, float(clipped.mean()), max(float(clipped.std()), 1e-6))


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
