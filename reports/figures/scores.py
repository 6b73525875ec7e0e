"""Figures of scores: every case, means as maps and as a radar.

A warning such as `phantom data` stands below every figure that needs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.look import legend, legend_inches, look, point, text, warn, wrapped

#: Above this many points they are drawn as pixels in SVG and PDF too.
_MANY_POINTS = 2000
#: A radar needs at least this many tasks to be more than a line.
_SPOKES = 3
#: Above this many cells of a map its numbers would not be read.
_MANY_CELLS = 600


def dice_by_task(scores: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure:
    """Dice of every case (labels averaged) by task and arm, and the mean. scores is what `case_scores` gives."""
    cases = scores.groupby(["task", "arm", "case"])["dice"].mean().dropna()
    lanes = {key: part.to_numpy() for key, part in cases.groupby(level=["task", "arm"], sort=False)}
    means = scores.groupby(["task", "arm", "label"])["dice"].mean().groupby(["task", "arm"]).mean()
    tasks = sorted(scores["task"].unique())
    step = 0.8 / len(arms)
    width = float(np.clip(1.6 + 0.16 * len(tasks) * len(arms), max(6.0, 1.6 + 0.8 * len(tasks)), 22.0))
    figure = Figure(figsize=(width, 4.0 + legend_inches(arms, width)), layout="constrained")
    axes = figure.subplots()
    for number, arm in enumerate(arms):
        at = np.arange(len(tasks)) + (number - (len(arms) - 1) / 2) * step
        x, y = _spread([lanes.get((task, arm), np.zeros(0)) for task in tasks], at, step)
        small: dict[str, Any] = {"markersize": 4, "alpha": 0.45, "markeredgewidth": 0}
        axes.plot(x, y, **point(number), **small, rasterized=len(cases) > _MANY_POINTS)
        centre = [means.get((task, arm), np.nan) for task in tasks]
        axes.plot(at, centre, **point(number), markersize=7, markeredgecolor="black")
        axes.hlines(centre, at - 0.42 * step, at + 0.42 * step, color="black", linewidth=1.2)
    axes.set(ylim=(-0.02, 1.02), ylabel="Dice", xlim=(-0.5, len(tasks) - 0.5))
    axes.set_xticks(range(len(tasks)), [text(task).replace("_", "\n", 1) for task in tasks], fontsize=8)
    axes.grid(axis="x", visible=False)
    for place in range(1, len(tasks)):
        axes.axvline(place - 0.5, color="#cccccc", linewidth=0.8)
    legend(figure, arms)
    warn(figure, warning)
    return figure


def _spread(lanes: Sequence[Any], at: Any, step: float) -> tuple[Any, Any]:
    """Where an arm's cases go: beside each other within the arm's lane, in the order of their names."""
    wide = [np.linspace(-0.3, 0.3, len(lane)) if len(lane) > 1 else np.zeros(len(lane)) for lane in lanes]
    x = [centre + offset * step for centre, offset in zip(at, wide, strict=True)]
    return np.concatenate(x), np.concatenate(lanes)


def difference_map(tasks: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Heat map of the Dice difference to the baseline, arm × task; None where nothing was compared.

    Its numbers have a sign, for in grey both ends of the colours are dark.
    """
    grid = _grid(tasks[tasks["control"] != "none"], arms, "dice_difference")
    if not grid.notna().to_numpy().any():
        return None
    limit = max(0.05, float(np.nanmax(np.abs(grid.to_numpy(dtype=float)))))
    look = {"cmap": "RdBu", "center": 0, "vmin": -limit, "vmax": limit}
    return _heat_map(grid, "Dice difference", "+.3f", look, warning)


def dice_map(tasks: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Heat map of mean Dice, arm × task: the lighter the higher. None where there is no score."""
    grid = _grid(tasks, arms, "dice_mean")
    if not grid.notna().to_numpy().any():
        return None
    return _heat_map(grid, "mean Dice", ".3f", {"cmap": "cividis"}, warning)


def _grid(tasks: pd.DataFrame, arms: Sequence[str], value: str) -> pd.DataFrame:
    """Arms as rows, tasks as columns."""
    there = set(tasks["arm"])
    return tasks.pivot(index="arm", columns="task", values=value).loc[[arm for arm in arms if arm in there]]


def _heat_map(grid: pd.DataFrame, label: str, form: str, colours: dict[str, Any], warning: str) -> Figure:
    figure = Figure(figsize=heat_size(grid), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.set_facecolor("#eeeeee")  # what is not known
    few = grid.size <= _MANY_CELLS
    sns.heatmap(
        grid,
        ax=axes,
        annot=few,
        fmt=form,
        annot_kws={"fontsize": 7.5},
        linewidths=1,
        cbar_kws={"label": label},
        **colours,
    )
    name_cells(axes, grid)
    warn(figure, warning)
    return figure


def heat_size(grid: pd.DataFrame) -> tuple[float, float]:
    """Inches of a map of this many cells."""
    names = min(34, max((len(str(name)) for name in grid.index), default=0)) / 14
    return min(22.0, 1.6 + names + 0.9 * len(grid.columns)), max(2.2, 1.2 + 0.3 * len(grid))


def name_cells(axes: Axes, grid: pd.DataFrame) -> None:
    """Arms at the left, tasks below."""
    axes.set(xlabel="", ylabel="")
    axes.set_yticklabels([wrapped(name, 34) for name in grid.index], rotation=0, fontsize=8, linespacing=0.9)
    axes.set_xticklabels([text(name).replace("_", "\n", 1) for name in grid.columns], rotation=0, fontsize=8)


def radar(tasks: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Mean Dice by task on spokes, a line an arm; None for fewer than three tasks."""
    grid = _grid(tasks, arms, "dice_mean").astype(float).T
    if len(grid) < _SPOKES or not grid.notna().to_numpy().any():
        return None
    figure = Figure(figsize=(7.0, 5.8 + legend_inches(arms, 7.0)), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(grid), endpoint=False)
    round_again = np.append(angles, angles[0])
    for number, arm in enumerate(arms):
        if arm in grid:
            values = grid[arm].to_numpy()
            axes.plot(round_again, np.append(values, values[0]), **look(number), markersize=4, linewidth=1.3)
    least, most = float(np.nanmin(grid.to_numpy())), float(np.nanmax(grid.to_numpy()))
    axes.set_ylim(max(0.0, np.floor(10 * least - 0.5) / 10), min(1.0, np.ceil(10 * most) / 10))
    axes.set_theta_offset(np.pi / 2)  # type: ignore[attr-defined]
    axes.set_theta_direction(-1)  # type: ignore[attr-defined]
    axes.set_xticks(angles, [text(name).replace("_", "\n", 1) for name in grid.index], fontsize=8)
    axes.tick_params(axis="x", pad=10)
    legend(figure, [*arms], lines=True)
    warn(figure, warning)
    return figure
