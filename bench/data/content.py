"""What one reading of a case tells for the settings of preprocessing: the box of its content, and its foreground."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.check import case_facts
from bench.data.folder import Case, read_case
from bench.data.grid import Box
from results.record import digest_of

#: Part of the address of stored contents: raise it when what is measured changes.
CONTENT_VERSION = 2
#: In CT everything above this value, in Hounsfield units, is body or table: lung is near -850, fat near -100.
AIR = -500.0
#: As many foreground voxels of a case as nnU-Net samples: enough for percentiles, whatever the size of the organ.
_SAMPLE = 10_000


@dataclass(frozen=True)
class CaseContent:
    """box is the content's on the native grid; values are foreground voxels of all channels, at most _SAMPLE."""

    box: Box
    values: np.ndarray


def case_content(case: Case, air: float | None) -> CaseContent:
    """The content of a case, measured once and remembered by the content of its files."""
    fact = case_facts(case)
    key = digest_of([CONTENT_VERSION, fact.image_digest, fact.label_digest, air], 32)
    target = cache_dir() / "contents" / f"{key}.npz"
    write_once(target, lambda path: _measure(case, air, path), case.id)
    with np.load(target) as stored:
        return CaseContent(_box_of(stored["box"]), stored["values"])


def _measure(case: Case, air: float | None, path: Path) -> None:
    volume = read_case(case)
    values = volume.image[:, volume.label > 0].ravel()
    values = values[:: max(1, -(-values.size // _SAMPLE))]
    with path.open("wb") as file:
        np.savez(file, box=np.array(content_box(volume.image, air)), values=values)


def content_box(image_CXYZ: np.ndarray, air: float | None = None) -> Box:
    """The box of all voxels that are not 0 in some channel, as nnU-Net has it; the whole image if there is none.

    With air (CT) a voxel must also be above it: nothing in a CT is exactly 0 but padding.
    """
    filled = np.zeros(image_CXYZ.shape[1:], dtype=bool)
    for channel in image_CXYZ:
        filled |= (channel != 0) if air is None else (channel != 0) & (channel > air)
    rows = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(filled.any(axis=others))
        rows.append((planes[0], planes[-1] + 1) if planes.size else (0, filled.shape[axis]))
    return _box_of(np.array(rows))


def _box_of(rows: np.ndarray) -> Box:
    x, y, z = ((int(first), int(end)) for first, end in rows)
    return x, y, z
