"""Where the tokens or deepest features of each arm are strong: heat maps over a slice, as trials left them in
`activations/<key>.npz`.

Arrays: `cases` (n,) text; for the i-th case `encoder_i`, and where there is a block `before_i` and `block_i` (a second
place: `before2_i`, `block2_i`), energies (H, W) float on the slice `image_i` of the trial's preview; `entropy_i` has a
value an encoder block with attention over all tokens (a reference model may have none), `amplification_i` one a place
of the block.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.cases import edge, enlarged
from reports.figures.look import warn, wrapped
from reports.previews import Bytes, PreviewError, Slice, preview_path, read_slices
from reports.tables import MISSING, Cell, Group, Table

#: Stage → its heading, in the order of the way through the model.
STAGES = {
    "before": "into the block",
    "block": "out of the block",
    "before2": "into the block, second place",
    "block2": "out of the block, second place",
    "encoder": "end of the encoder",
}
_BROKEN = (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, IndexError)
#: A figure has no more rows than this; the next has the next arms.
_ROWS = 12
_PANEL, _GAP = 168, 6
#: How much of a pixel is the heat map, and how much the slice below it.
_HEAT = 0.65


@dataclass(frozen=True)
class ArmMaps:
    """One arm on one case: maps stage → (H, W); entropy (encoder blocks,) from 0 to 1; amplification (places,).

    Of a reference model there is the end of the encoder alone, and entropy (0,) where no attention is over all tokens.
    """

    arm: str
    slice: Slice
    maps: dict[str, NDArray[Any]]
    entropy: NDArray[Any]
    amplification: NDArray[Any]


@dataclass(frozen=True)
class TaskMaps:
    """A task's first case that was looked into, an entry an arm."""

    task: str
    case: str
    arms: tuple[ArmMaps, ...]

    @property
    def caption(self) -> str:
        """What is seen, in sentences."""
        return (
            f"Case {self.case}, the slice with most reference (white outline). The lighter, the stronger: mean |x| "
            "over the channels of a token, or of a place of a reference model's deepest features, which may be far "
            "coarser; each map from its own least to its own greatest value. Grey: the arm has no block. "
            "Without colour: cut off before the model."
        )

    def parts(self) -> Iterator[TaskMaps]:
        """The same in pieces that are figures of their own."""
        for first in range(0, len(self.arms), _ROWS):
            yield replace(self, arms=self.arms[first : first + _ROWS])


def read(run: Path, shown: pd.DataFrame, trials: pd.DataFrame) -> tuple[list[TaskMaps], list[str]]:
    """Each task's maps, and a sentence for each file that cannot be used. Nothing where no trial left any.

    shown is what `shown_trials` gives, trials what `trial_table` gives.
    """
    tasks: list[TaskMaps] = []
    problems: list[str] = []
    if not (run / "activations").is_dir():
        return tasks, problems
    first = shown.sort_values("case", kind="stable").drop_duplicates(["task", "arm"])
    keys = {(row.task, row.arm): (str(row.case), str(row.key)) for row in first.itertuples(index=False)}
    for task, planned in trials.groupby("task", sort=False):
        found: list[tuple[str, ArmMaps]] = []
        for arm in dict.fromkeys(planned["arm"]):
            try:
                if (task, arm) in keys and (maps := _read_one(run, str(arm), *keys[task, arm])):
                    found.append((keys[task, arm][0], maps))
            except (PreviewError, FileNotFoundError) as error:
                problems.append(f"{task}, {arm}: {error}")
        if found:
            case = found[0][0]
            tasks.append(TaskMaps(str(task), case, tuple(maps for name, maps in found if name == case)))
    return tasks, problems


def _read_one(run: Path, arm: str, case: str, key: str) -> ArmMaps | None:
    """None where the trial left no file, or looked into other cases."""
    path = run / "activations" / f"{key}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["cases"]]
            if case not in names:
                return None
            number = names.index(case)
            maps = {stage: arrays[f"{stage}_{number}"] for stage in STAGES if f"{stage}_{number}" in arrays}
            entropy, amplification = arrays[f"entropy_{number}"], arrays[f"amplification_{number}"]
    except _BROKEN as error:
        raise PreviewError(f"activations {path} cannot be used: {error}; delete it and run its trial again") from error
    shown = read_slices(preview_path(run, key), {case})[case]
    if any(one.shape != shown.image_HW.shape or not np.isfinite(one).all() for one in maps.values()):
        raise PreviewError(f"activations {path} do not lie on the slice of its preview; run its trial again")
    return ArmMaps(arm, shown, maps, entropy, amplification)


def draw(task: TaskMaps, warning: str = "") -> Figure:
    """A row an arm; the slice, then a column a stage."""
    stages = [stage for stage in STAGES if any(stage in one.maps for one in task.arms)]
    first = task.arms[0].slice
    tall = float(np.clip(first.image_HW.shape[0] * first.aspect / first.image_HW.shape[1], 0.4, 1.6))
    height = round(_PANEL * tall)
    figure = Figure(figsize=(1.6 + 1.4 * (1 + len(stages)), 0.9 + 1.45 * tall * len(task.arms)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(_mosaic(task, stages, height), interpolation="nearest", aspect="equal")
    heads = ["image", *(wrapped(STAGES[stage], 14) for stage in stages)]
    names = [wrapped(one.arm) for one in task.arms]
    axes.set_xticks([(_PANEL + _GAP) * place + _PANEL / 2 for place in range(len(heads))], heads, fontsize=8)
    axes.set_yticks([(height + _GAP) * place + height / 2 for place in range(len(names))], names, fontsize=8)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    warn(figure, warning)
    return figure


def _mosaic(task: TaskMaps, stages: Sequence[str], height: int) -> Bytes:
    """All panels in one picture, (H, W, 3): drawn far faster than as axes of their own."""
    shape = ((height + _GAP) * len(task.arms) - _GAP, (_PANEL + _GAP) * (1 + len(stages)) - _GAP, 3)
    canvas = np.full(shape, 255, np.uint8)
    for row, one in enumerate(task.arms):
        for column, stage in enumerate(("", *stages)):
            top, left = (height + _GAP) * row, (_PANEL + _GAP) * column
            panel = 230 if stage and stage not in one.maps else _panel(one, stage, (height, _PANEL))
            canvas[top : top + height, left : left + _PANEL] = panel
    return canvas


def _panel(one: ArmMaps, stage: str, size: tuple[int, int]) -> Bytes:
    """The slice, under a stage's heat map if one is named, with the reference's outline."""
    picture = np.repeat(enlarged(one.slice.image_HW, size)[..., None], 3, axis=2) / 255.0
    if stage:
        energy = enlarged(one.maps[stage], size)
        seen = energy > 0  # what was cut off before the model has 0, which would be the least of every map
        low, high = float(energy.min(where=seen, initial=np.inf)), float(energy.max())
        heat = matplotlib.colormaps["inferno"]((energy[seen] - low) / max(high - low, 1e-12))[..., :3]
        picture[seen] = (1 - _HEAT) * picture[seen] + _HEAT * heat
    picture[edge(enlarged(one.slice.reference_HW, size) > 0, 1)] = 1.0
    return np.asarray(255 * picture, np.uint8)


def table(tasks: Sequence[TaskMaps]) -> Table:
    """A group a task, a row an arm: attention's entropy in the first and the last encoder block, and amplification."""
    columns = ("Arm", "Entropy, first block", "Entropy, last block", "Amplification")
    groups, rows = [], []
    for task in tasks:
        members = [(one.arm, *_numbers(one)) for one in task.arms]
        rows += [{"task": task.task, "case": task.case, **dict(zip(columns, row, strict=True))} for row in members]
        groups.append(Group(f"{task.task} · case {task.case}", tuple(tuple(map(Cell, row)) for row in members)))
    return Table("activations", _CAPTION, columns, tuple(groups), pd.DataFrame(rows), frozenset(columns[1:]))


def _numbers(one: ArmMaps) -> tuple[str, str, str]:
    entropy = [f"{value:.3f}" for value in one.entropy[[0, -1]]] if one.entropy.size else [MISSING] * 2
    amplification = ", ".join(f"{value:.3g}" for value in one.amplification) or MISSING
    return entropy[0], entropy[1], amplification


_CAPTION = (
    "Attention's mean entropy over heads and tokens as a share of the largest possible (1 looks everywhere alike), and "
    "the block's amplification |block(x)| / |x|, both on one held-out case. A dash: the arm has no attention over all "
    "tokens, or no block."
)
