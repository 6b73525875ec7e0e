"""What one reading of a case tells for the settings of preprocessing: the box of its content, and its foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.check import case_facts
from bench.data.folder import Case, read_case
from bench.data.grid import Box
from results.record import digest_of

#: Part of the address of stored contents: raise it when what is measured changes.
CONTENT_VERSION = 3
#: In CT everything above this value, in Hounsfield units, is body or table: lung is near -850, fat near -100.
AIR = -500.0
#: As many foreground voxels of a case as nnU-Net samples: enough for percentiles, whatever the size of the organ.
_SAMPLE = 10_000


@dataclass(frozen=True)
class CaseContent:
    """box is the content's on the native grid; values_CN are foreground voxels of each channel, at most _SAMPLE."""

    box: Box
    values_CN: np.ndarray


def case_content(case: Case, ct: Sequence[bool]) -> CaseContent:
    """The content of a case, measured once and remembered by the content of its files; ct: see `content_box`."""
    fact = case_facts(case)
    key = digest_of([CONTENT_VERSION, fact.image_digest, fact.label_digest, list(ct)], 32)
    target = cache_dir() / "contents" / f"{key}.npz"
    write_once(target, lambda path: _measure(case, ct, path), case.id)
    with np.load(target) as stored:
        return CaseContent(_box_of(stored["box"]), stored["values_CN"])


def _measure(case: Case, ct: Sequence[bool], path: Path) -> None:
    volume = read_case(case)
    values_CN = volume.image[:, volume.label > 0]
    values_CN = values_CN[:, :: max(1, -(-values_CN.shape[1] // _SAMPLE))]
    with path.open("wb") as file:
        np.savez(file, box=np.array(content_box(volume.image, ct)), values_CN=values_CN)


def content_box(image_CXYZ: np.ndarray, ct: Sequence[bool] = ()) -> Box:
    """The box of all voxels that are not 0 in some channel, as nnU-Net has it; the whole image if there is none.

    ct says of each channel whether it is CT (none is, where it is left out): there a voxel must also be above AIR, for
    nothing in a CT is exactly 0 but padding.
    """
    filled = np.zeros(image_CXYZ.shape[1:], dtype=bool)
    for channel, is_ct in zip_longest(image_CXYZ, ct, fillvalue=False):
        filled |= (channel != 0) & (channel > AIR) if is_ct else channel != 0
    rows = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(filled.any(axis=others))
        rows.append((planes[0], planes[-1] + 1) if planes.size else (0, filled.shape[axis]))
    return _box_of(np.array(rows))


def _box_of(rows: np.ndarray) -> Box:
    x, y, z = ((int(first), int(end)) for first, end in rows)
    return x, y, z
