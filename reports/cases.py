"""Overlays: a slice of a few cases, the reference and each arm's prediction, as trials left them in `previews/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import ndimage

from reports.figures.look import text, warn, wrapped
from reports.previews import PreviewError, Slice, preview_path, read_slices
from reports.shown import choose
from results.record import CONTROLS

#: A figure has a row an arm, and no more than this: the case viewer is for all of them.
MOST_ARMS = 10
#: Okabe and Ito's palette without its black and grey; labels differ in kind of line too. The viewer has the same.
COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00")
_LINES: tuple[Any, ...] = ("-", "--", ":")
#: Pixels on and off along an outline, for each kind of line.
_DASHES = (0, 6, 2)
_PANEL = 168
_GAP = 6
_INCHES = 1.3


@dataclass(frozen=True)
class TaskCases:
    """What a task's figure shows: chosen (case → why), slices and Dice by arm and case; hidden arms lack room."""

    chosen: dict[str, str]
    slices: dict[str, dict[str, Slice]]
    dice: dict[tuple[str, str], float]
    hidden: int = 0

    @property
    def caption(self) -> str:
        """How the cases were chosen, in sentences."""
        more = f" For want of room without {self.hidden} more arms." if self.hidden else ""
        return (
            "The first case by name, and the best, the median and the worst by Dice averaged over arms; in each the "
            "axial slice with most reference. On each prediction: its Dice in the whole case, labels averaged, and the "
            f"reference as a thin white outline.{more}"
        )


def task_cases(
    runs: Sequence[Path], shown: pd.DataFrame, trials: pd.DataFrame
) -> Iterator[tuple[str, TaskCases, list[str]]]:
    """Task by task the chosen cases from the run folders, and a sentence for each preview that is not there.

    shown is what `shown_trials` gives, trials what `trial_table` gives.
    """
    of_task = dict(list(shown.groupby("task", sort=False)))
    for task, planned in trials.groupby("task", sort=False):
        problems: list[str] = []
        rows = of_task.get(task, shown.iloc[:0])
        wanted = rows[rows["case"].isin(list(chosen := choose(rows)))]
        scored = set(rows["arm"])
        silent = [arm for arm in planned["arm"].unique() if arm not in scored]
        problems += [f"{task}, {arm}: no complete trial" for arm in silent]
        slices: dict[str, dict[str, Slice]] = {}
        for arm in (arms := _most_telling(planned[planned["arm"].isin(scored)])):
            slices[arm], missing = _slices_of(runs, wanted[wanted["arm"] == arm])
            problems += [f"{task}, {arm}: {sentence}" for sentence in missing]
        dice = {(str(arm), str(case)): float(value) for arm, case, value in wanted[["arm", "case", "dice"]].to_numpy()}
        yield str(task), TaskCases(chosen, slices, dice, len(scored) - len(arms)), problems


def _most_telling(planned: pd.DataFrame) -> list[str]:
    """The arms that get a row, in reading order: where they are many, baselines and what was pre-trained come first."""
    arms = planned.drop_duplicates("arm").reset_index(drop=True)
    rank = arms["control"].map(list(CONTROLS).index)
    return [str(arms["arm"][place]) for place in sorted(rank.sort_values(kind="stable").index[:MOST_ARMS])]


def _slices_of(runs: Sequence[Path], rows: pd.DataFrame) -> tuple[dict[str, Slice], list[str]]:
    slices: dict[str, Slice] = {}
    problems = []
    for key, part in rows.groupby("key", sort=False):
        paths = [preview_path(run, str(key)) for run in runs]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            problems.append(f"no preview file previews/{key}.npz")
            continue
        try:
            slices |= read_slices(path, set(part["case"]))
        except PreviewError as error:
            problems.append(str(error))
    return slices, problems


def overlay(cases: TaskCases, labels: Sequence[str], warning: str = "") -> Figure | None:
    """A column a case; a row for its image, its reference, and each arm's prediction. None where there is no slice."""
    every = [one for slices in cases.slices.values() for one in slices.values()]
    if not every:
        return None
    tall = float(np.clip(max(_tallness(one) for one in every), 0.4, 1.6))
    rows = ("image", "reference", *cases.slices)
    size = (2.2 + _INCHES * len(cases.chosen), 1.1 + (_INCHES * tall + 0.05) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    height = round(_PANEL * tall)
    axes.imshow(_mosaic(cases, height, len(labels)), interpolation="nearest", aspect="equal")
    _name_panels(axes, cases, rows, height)
    handles = [Line2D([], [], color=_colour(i), linestyle=_LINES[i % 3], label=text(n)) for i, n in enumerate(labels)]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(4, len(handles)), frameon=False, fontsize=8)
    warn(figure, warning)
    return figure


def _name_panels(axes: Axes, cases: TaskCases, rows: Sequence[str], height: int) -> None:
    columns = [f"{text(case)}\n{why}" for case, why in cases.chosen.items()]
    axes.set_xticks([(_PANEL + _GAP) * n + _PANEL / 2 for n in range(len(columns))], columns, fontsize=8)
    names = [wrapped(row) for row in rows]
    axes.set_yticks([(height + _GAP) * n + height / 2 for n in range(len(rows))], names, fontsize=8)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for row, arm in enumerate(cases.slices, start=2):
        for column, case in enumerate(cases.chosen):
            dice = cases.dice.get((arm, case), np.nan)
            words = ("–" if np.isnan(dice) else f"{dice:.3f}") if case in cases.slices[arm] else "no preview"
            at = ((_PANEL + _GAP) * column + 8, (height + _GAP) * row + height - 8)
            box = {"facecolor": "black", "alpha": 0.65, "pad": 1.5, "linewidth": 0}
            axes.text(*at, words, color="white", fontsize=7, va="bottom", bbox=box)


def _mosaic(cases: TaskCases, height: int, labels: int) -> NDArray[np.uint8]:
    """All panels in one picture, (H, W, 3): drawn far faster than as axes of their own."""
    shape = ((height + _GAP) * (len(cases.slices) + 2) - _GAP, (_PANEL + _GAP) * len(cases.chosen) - _GAP, 3)
    canvas = np.full(shape, 255, np.uint8)
    for column, case in enumerate(cases.chosen):
        first = next((slices[case] for slices in cases.slices.values() if case in slices), None)
        panels: list[NDArray[np.uint8] | None] = [None, None]
        if first is not None:
            panels = [_panel(first, height, 0), _panel(first, height, labels, "reference")]
        for slices in cases.slices.values():
            panels.append(_panel(slices[case], height, labels) if case in slices else None)
        for row, panel in enumerate(panels):
            top, left = (height + _GAP) * row, (_PANEL + _GAP) * column
            canvas[top : top + height, left : left + _PANEL] = 200 if panel is None else panel
    return canvas


def _panel(shown: Slice, height: int, labels: int, mask: str = "prediction") -> NDArray[np.uint8]:
    """A slice in true proportions in the middle of (height, _PANEL, 3): filled lightly, outlined, label by label."""
    rows, columns = shown.image_HW.shape
    scale = min(height / (rows * shown.aspect), _PANEL / columns)
    size = (max(1, int(rows * shown.aspect * scale)), max(1, int(columns * scale)))
    grey = np.repeat(enlarged(shown.image_HW, size)[..., None], 3, axis=2).astype(float)
    reference = enlarged(shown.reference_HW, size)
    drawn = enlarged(shown.prediction_HW, size) if mask == "prediction" else reference
    slant = np.add.outer(np.arange(size[0]), np.arange(size[1]))
    for number in range(labels):
        inside, colour, dash = drawn == number + 1, 255 * np.array(to_rgb(_colour(number))), _DASHES[number % 3]
        grey[inside] = 0.7 * grey[inside] + 0.3 * colour
        if mask == "prediction":
            grey[edge(reference == number + 1, 1)] = 255
        grey[edge(inside, 2) & (slant // dash % 2 == 0 if dash else True)] = colour
    panel = np.zeros((height, _PANEL, 3), np.uint8)
    top, left = (height - size[0]) // 2, (_PANEL - size[1]) // 2
    panel[top : top + size[0], left : left + size[1]] = grey.astype(np.uint8)
    return panel


def enlarged(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A plane (H, W) in another size, each pixel the nearest one."""
    rows, columns = (((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(size, plane.shape, strict=True))
    return plane[np.ix_(rows, columns)]


def edge(inside: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """What of a mask is at most width pixels from what is not of it."""
    outline: NDArray[np.bool_] = inside & ~ndimage.binary_erosion(inside, iterations=width)
    return outline


def _tallness(shown: Slice) -> float:
    """Height over width as drawn."""
    rows, columns = shown.image_HW.shape
    return rows * shown.aspect / columns


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
