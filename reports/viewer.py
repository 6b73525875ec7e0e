"""The case viewer: `report/viewer.html`, one file that needs no server. Of the cases in which arms differ most it holds
the coarsened image, the reference and every arm's prediction, each case as one zlib stream.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports import inline
from reports.cases import COLOURS
from reports.previews import PreviewError, preview_path, read_labels, read_volume, volume_names
from reports.shown import spread
from results.record import TrialResult

#: Arm, the key of its trial, Dice.
_Row = tuple[str, str, float]
#: What goes into the file, at most: cases, and bytes of their base64 text.
MOST_CASES, MOST_BYTES = 40, 12_000_000


@dataclass(frozen=True)
class ViewerCase:
    """A case as the page reads it: data is base64 of zlib of image, reference and one prediction an arm, uint8 each.

    size (X, Y, Z) and spacing in mm are those of the coarsened grid; arms are (name, Dice or None).
    """

    task: str
    name: str
    spread: float
    labels: tuple[str, ...]
    size: tuple[int, ...]
    spacing: tuple[float, float, float]
    arms: tuple[tuple[str, float | None], ...]
    data: str

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the voxels, as JSON values."""
        values = {"task": self.task, "name": self.name, "spread": self.spread, "labels": self.labels}
        return values | {"size": self.size, "spacing": self.spacing, "arms": self.arms}


@dataclass(frozen=True)
class Viewer:
    """The cases that are in it, by spread; those that are not, task → names: for want of room, and of pictures."""

    cases: tuple[ViewerCase, ...]
    crowded: dict[str, list[str]]
    absent: dict[str, list[str]]


def collect(
    runs: Sequence[Path],
    records: Sequence[TrialResult],
    shown: pd.DataFrame,
    most_cases: int = MOST_CASES,
    most_bytes: int = MOST_BYTES,
) -> Viewer:
    """Read cases from the run folders until there are enough: of each task in turn the one in which arms differ most.

    shown is what `shown_trials` gives. Previews without volumes (an older layout), damaged and missing ones are not in.
    """
    labels = {record.task.name: record.task.labels for record in records}
    groups: dict[tuple[str, str], list[_Row]] = {}
    for task, case, arm, key, dice in zip(
        *(shown[name] for name in ("task", "case", "arm", "key", "dice")), strict=True
    ):
        groups.setdefault((str(task), str(case)), []).append((str(arm), str(key), float(dice)))
    shelf = _Shelf(runs)
    kept: list[ViewerCase] = []
    crowded: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    room, full = most_bytes, False
    for task, name, value in _in_turn(spread(shown)):
        if full or len(kept) == most_cases:
            crowded.setdefault(task, []).append(name)
            continue
        case = shelf.case(task, name, groups[task, name], float(value), labels[task])
        if case is None:
            absent.setdefault(task, []).append(name)
            continue
        full = len(case.data) > room
        if full:
            crowded.setdefault(task, []).append(name)
            continue
        room -= len(case.data)
        kept.append(case)
    return Viewer(tuple(sorted(kept, key=lambda case: -case.spread)), crowded, absent)


def _in_turn(table: pd.DataFrame) -> Iterator[tuple[str, str, float]]:
    """The rows of `spread`, one of each task in turn."""
    turn = table.groupby("task").cumcount()
    for row in table.assign(turn=turn).sort_values("turn", kind="stable").itertuples():
        yield str(row.task), str(row.case), float(row.spread)


class _Shelf:
    """The previews of some run folders; each file's list of cases is read once."""

    def __init__(self, runs: Sequence[Path]) -> None:
        self.runs = runs
        self.lists: dict[str, tuple[Path | None, Mapping[str, tuple[int, str]]]] = {}

    def case(
        self, task: str, name: str, rows: Sequence[_Row], value: float, labels: tuple[str, ...]
    ) -> ViewerCase | None:
        """The case of these rows (an arm each), or None where no arm has a volume of it that can be read."""
        found = [(arm, dice, *self._find(key, name)) for arm, key, dice in rows]
        held = [(arm, dice, path, number, volume) for arm, dice, path, number, volume in found if path is not None]
        if not held:
            return None
        *_, origin, _, grid = held[0]
        try:
            volume = read_volume(origin, grid)
            parts, arms = [volume.image_XYZ, volume.reference_XYZ], []
            for arm, dice, path, number, its_grid in held:
                mask = read_labels(path, number)
                if its_grid == grid and mask.shape == parts[0].shape:  # else it was made from another image
                    parts.append(mask)
                    arms.append((arm, None if math.isnan(dice) else round(dice, 4)))
        except (PreviewError, FileNotFoundError):
            return None
        packed = zlib.compress(b"".join(part.tobytes() for part in parts), 9)
        data = base64.b64encode(packed).decode()
        size = tuple(int(side) for side in parts[0].shape)
        return ViewerCase(task, name, round(value, 4), labels, size, volume.spacing, tuple(arms), data)

    def _find(self, key: str, case: str) -> tuple[Path | None, int, str]:
        if key not in self.lists:
            self.lists[key] = self._list(key)
        path, names = self.lists[key]
        return (path, *names[case]) if case in names else (None, 0, "")

    def _list(self, key: str) -> tuple[Path | None, Mapping[str, tuple[int, str]]]:
        for path in (preview_path(run, key) for run in self.runs):
            try:
                return path, volume_names(path)
            except FileNotFoundError:
                continue
            except PreviewError:  # the page's list of missing pictures names the file
                return None, {}
        return None, {}


def summary(viewer: Viewer, size: int) -> str:
    """What a file of size bytes holds, in a sentence for the page."""
    left_out = sum(len(names) for part in (viewer.crowded, viewer.absent) for names in part.values())
    held = f"{len(viewer.cases)} case{'s' * (len(viewer.cases) != 1)} in three planes, {size / 1e6:.1f} MB"
    return f"{held}: those in which arms differ most come first." + f" {left_out} more are not in it." * bool(left_out)


def render(viewer: Viewer, title: str, banner: str, page: str = "index.html") -> str:
    """The viewer as HTML; page is the address of the report beside it. Everything from data or names is escaped."""
    script = inline.source("viewer_data.js", "viewer_draw.js", "viewer.js")
    facts = {"cases": [case.facts for case in viewer.cases], "colours": COLOURS}
    return inline.environment().get_template("viewer.html").render(
        viewer=viewer, facts=facts, title=title, banner=banner, page=page, script=script, policy=inline.policy(script)
    )  # fmt: skip
