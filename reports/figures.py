"""Figures of scores and curves. Every function gives a free-standing matplotlib Figure: pyplot's state is not touched.

Arms differ in colour (Okabe and Ito's palette, doi of the figure style: https://jfly.uni-koeln.de/color/), marker and
line, so that a figure reads in grey too. A warning such as `phantom data` stands below every figure that needs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results import summary
from results.record import TrialResult

_COLOURS = ("#595959", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: tuple[Any, ...] = ((None, None), (4, 1.5), (1, 1), (3, 1, 1.5, 1), (5, 1, 1, 1), (1, 2), (6, 2), (2, 1))
#: Above this many points they are drawn as pixels in the SVG too.
_MANY_POINTS = 2000
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "svg.hashsalt": "report",  # the same figure gives the same file
}


def style() -> Any:
    """The context in which figures are drawn and saved."""
    return matplotlib.rc_context(_STYLE)


def text(value: object) -> str:
    """Text as matplotlib must be given it, so that a dollar sign in a name starts no formula."""
    return str(value).replace("$", r"\$")


def warn(figure: Figure, warning: str) -> None:
    """Write the warning below the figure (nothing where it is empty)."""
    if warning:
        figure.supxlabel(text(warning), fontsize=8, color="#a32a00")


def dice_by_task(scores: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure:
    """Dice of every case (labels averaged) by task and arm, and the mean. scores is what `case_scores` gives."""
    cases = scores.groupby(["task", "arm", "case"], sort=False)["dice"].mean().dropna()
    means = scores.groupby(["task", "arm", "label"])["dice"].mean().groupby(["task", "arm"]).mean()
    tasks = sorted(scores["task"].unique())
    figure = Figure(figsize=(max(6.0, 1.6 + 1.0 * len(tasks)), 4.2), layout="constrained")
    axes = figure.subplots()
    step = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        offset = (number - (len(arms) - 1) / 2) * step
        look = {"color": _cycle(_COLOURS, number), "marker": _cycle(_MARKERS, number), "linestyle": "none"}
        x, y = _spread(cases, tasks, arm, offset, step)
        axes.plot(x, y, **look, markersize=5, alpha=0.7, markeredgewidth=0, rasterized=len(x) > _MANY_POINTS)
        centre = [means.get((task, arm), np.nan) for task in tasks]
        at = np.arange(len(tasks)) + offset
        axes.plot(at, centre, **look, markersize=8, markeredgecolor="black", label=text(arm))
        axes.hlines(centre, at - 0.42 * step, at + 0.42 * step, color="black", linewidth=1.2)
    axes.set(ylim=(-0.02, 1.02), ylabel="Dice", xlim=(-0.5, len(tasks) - 0.5))
    axes.set_xticks(range(len(tasks)), [text(task).replace("_", "\n", 1) for task in tasks], fontsize=8)
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=_legend_columns(arms, figure.get_figwidth()), frameon=False)
    warn(figure, warning)
    return figure


def _legend_columns(names: Sequence[str], inches: float) -> int:
    """How many names fit side by side, with about a twelfth of an inch a letter and half an inch for the marker."""
    return max(1, min(len(names), int(inches / (0.5 + max(map(len, names)) / 12))))


def _spread(cases: pd.Series, tasks: Sequence[str], arm: str, offset: float, step: float) -> tuple[Any, Any]:
    """Where an arm's cases go: beside each other within the arm's lane, in the order of their names."""
    x, y = [], []
    for place, task in enumerate(tasks):
        found = cases[(cases.index.get_level_values("task") == task) & (cases.index.get_level_values("arm") == arm)]
        lane = np.linspace(-0.3, 0.3, len(found)) if len(found) > 1 else np.zeros(len(found))
        x.append(place + offset + lane * step)
        y.append(found.sort_index().to_numpy())
    return np.concatenate(x), np.concatenate(y)


def difference_map(tasks: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Heat map of the Dice difference to the baseline, task × arm; None where nothing was compared."""
    rivals = tasks[tasks["control"] != "none"]
    arms = [arm for arm in arms if arm in set(rivals["arm"])]
    grid = rivals.pivot(index="task", columns="arm", values="dice_difference")[arms]
    if not grid.notna().to_numpy().any():
        return None
    limit = max(0.05, float(np.nanmax(np.abs(grid.to_numpy(dtype=float)))))
    size = (3.2 + 1.3 * len(grid.columns), max(2.4, 1.6 + 0.38 * len(grid)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    label = {"label": "Dice difference"}
    look = {"cmap": "RdBu", "center": 0, "vmin": -limit, "vmax": limit, "linewidths": 1, "cbar_kws": label}
    axes.grid(visible=False)
    axes.set_facecolor("#eeeeee")  # what was not compared
    sns.heatmap(grid, ax=axes, annot=True, fmt="+.3f", annot_kws={"fontsize": 8}, **look)
    axes.set(xlabel="", ylabel="")
    axes.set_yticklabels([text(name) for name in grid.index], rotation=0)
    axes.set_xticklabels([text(name).replace(" (", "\n(") for name in grid.columns], rotation=0)
    warn(figure, warning)
    return figure


def learning_curves(
    records: Sequence[TrialResult], trials: pd.DataFrame, value: str, warning: str = ""
) -> Figure | None:
    """`loss` or `dice` of the training crops by step: a panel a task, a line a trial; None where none was recorded."""
    curves = _curves(records, trials, value)
    if curves.empty:
        return None
    arms = summary.arms(trials)
    tasks = sorted(curves["task"].unique())
    columns = min(4, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(max(5.0, 2.6 * columns), 0.9 + 2.0 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for panel, task in zip(panels, tasks, strict=False):
        _draw_curves(panel, curves[curves["task"] == task], arms, value)
        panel.set_title(text(task), fontsize=9)
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=min(len(arms), 4), frameon=False)
    warn(figure, warning)
    return figure


def _curves(records: Sequence[TrialResult], trials: pd.DataFrame, value: str) -> pd.DataFrame:
    arms = dict(zip(trials["digest"], trials["arm"], strict=True))
    rows = [
        (record.spec.task, arms[record.spec.digest], record.spec.digest, point["step"], point[value])
        for record in records
        for point in record.curve
        if point.get(value) is not None
    ]
    return pd.DataFrame(rows, columns=["task", "arm", "digest", "step", value])


def _draw_curves(axes: Axes, curves: pd.DataFrame, arms: Sequence[str], value: str) -> None:
    looks = {arm: number for number, arm in enumerate(arms)}
    for arm in arms:
        number = looks[arm]
        look = {"color": _cycle(_COLOURS, number), "dashes": _cycle(_DASHES, number)}
        axes.plot([], [], label=text(arm), marker=_cycle(_MARKERS, number), markersize=4, **look)  # for the legend
        for _, line in curves[curves["arm"] == arm].groupby("digest", sort=False):
            every = max(1, len(line) // 6)
            marks = {"marker": _cycle(_MARKERS, number), "markevery": every, "markersize": 4}
            axes.plot(line["step"], line[value], linewidth=1.3, **marks, **look)
    axes.set(xlabel="step", ylabel="training Dice" if value == "dice" else "training loss")
    axes.tick_params(labelsize=8)


def _cycle(values: Sequence[Any], number: int) -> Any:
    return values[number % len(values)]
