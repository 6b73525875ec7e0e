"""Where the tokens of each arm are strong: heat maps over a slice, as trials left them in `activations/<key>.npz`.

Arrays: `cases` (n,) text; for the i-th case `encoder_i`, and where there is a block `before_i` and `block_i` (a second
place: `before2_i`, `block2_i`), energies (H, W) float on the slice `image_i` of the trial's preview; `entropy_i` has a
value an encoder block, `amplification_i` one a place of the block.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.figures.look import text, warn
from reports.previews import PreviewError, Slice, preview_path, read_slices
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
_MOST_ARMS = 12


@dataclass(frozen=True)
class ArmMaps:
    """One arm on one case: maps stage → (H, W); entropy (encoder blocks,) from 0 to 1; amplification (places,)."""

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
            "over the channels of a token, each map from its own least to its own greatest value."
        )


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
            tasks.append(TaskMaps(str(task), case, tuple([maps for name, maps in found if name == case][:_MOST_ARMS])))
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
    size = (1.6 + 1.5 * (1 + len(stages)), 0.9 + (1.5 * tall + 0.08) * len(task.arms))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(task.arms), 1 + len(stages), squeeze=False)
    for row, one in zip(grid, task.arms, strict=True):
        _panel(row[0], one.slice)
        row[0].set_ylabel(text(one.arm).replace(" (", "\n(").replace("), ", "),\n"), fontsize=8)
        for axes, stage in zip(row[1:], stages, strict=True):
            _panel(axes, one.slice, one.maps.get(stage))
    for axes, name in zip(grid[0], ("image", *(STAGES[stage] for stage in stages)), strict=True):
        axes.set_title(name.replace("), ", "),\n"), fontsize=8)
    warn(figure, warning)
    return figure


def _panel(axes: Axes, shown: Slice, energy_HW: NDArray[Any] | None = None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    look: dict[str, Any] = {"aspect": shown.aspect, "interpolation": "nearest"}
    if energy_HW is None and axes.get_subplotspec().colspan.start:  # type: ignore[union-attr]
        axes.text(0.5, 0.5, MISSING, transform=axes.transAxes, ha="center", va="center")
        return
    axes.imshow(shown.image_HW, cmap="gray", vmin=0, vmax=255, **look)
    if energy_HW is not None:
        low, high = float(energy_HW.min()), float(energy_HW.max())
        axes.imshow(energy_HW, cmap="inferno", vmin=low, vmax=max(high, low + 1e-12), alpha=0.65, **look)
    if (shown.reference_HW > 0).any() and not (shown.reference_HW > 0).all():
        axes.contour(shown.reference_HW > 0, levels=[0.5], colors="white", linewidths=0.7)


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
    "the block's amplification |block(x)| / |x|, both on one held-out case."
)
