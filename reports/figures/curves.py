"""Curves: of training by step, and of Dice by what was varied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.look import legend, look, names_on, panels, text, warn
from results.record import TrialResult
from results.sweeps import ALL

_LEARNING = {
    "loss": "training loss",
    "dice": "training Dice",
    "validation_dice": "validation Dice",
    "samples_per_second": "samples a second",
}


def learning_curves(
    records: Sequence[TrialResult], trials: pd.DataFrame, arms: Sequence[str], value: str, warning: str = ""
) -> Figure | None:
    """`loss` or `dice` of training crops, `validation_dice` or `samples_per_second` by step: a panel a task, a line an
    arm.

    A line is the mean over the arm's trials, with a point an epoch.
    A band goes from the lowest to the highest trial. None where no curve was recorded.
    """
    curves = _curves(records, trials, value)
    if curves.empty:
        return None
    tasks = sorted(curves["task"].unique())
    figure, axes = panels(len(tasks), 4, (2.6, 2.0), arms)
    by_step = curves.groupby(["task", "arm", "step"])[value].agg(["mean", "min", "max", "size"])
    for panel, task in zip(axes, tasks, strict=True):
        _draw_curves(panel, by_step.loc[task], arms)
        panel.set_title(text(task), fontsize=9)
        panel.set(xlabel="step", ylabel=_LEARNING[value])
    legend(figure, arms, lines=True)
    warn(figure, warning)
    return figure


def _curves(records: Sequence[TrialResult], trials: pd.DataFrame, value: str) -> pd.DataFrame:
    arms = dict(zip(trials["digest"], trials["arm"], strict=True))
    rows = []
    for record in records:
        key = (record.spec.task, arms[record.spec.digest])
        points = _with_pace(record) if value == "samples_per_second" else record.curve
        rows += [(*key, point["step"], point[value]) for point in points if point.get(value) is not None]
    return pd.DataFrame(rows, columns=["task", "arm", "step", value])


def _with_pace(record: TrialResult) -> Iterator[dict[str, Any]]:
    """The curve's entries with the crops trained on a second; None where an epoch's time was not measured whole."""
    before = 0
    for point, seconds in zip(record.curve, record.cost.get("epoch_seconds", ()), strict=False):
        crops = (point["step"] - before) * record.spec.train.get("batch", 1)
        yield point | {"samples_per_second": crops / seconds if seconds else None}
        before = point["step"]


def _draw_curves(axes: Axes, curves: pd.DataFrame, arms: Sequence[str]) -> None:
    found = set(curves.index.get_level_values("arm"))
    for number, arm in enumerate(arms):
        if arm not in found:
            continue
        line = curves.loc[arm]
        marks: dict[str, Any] = {"markevery": max(1, len(line) // 6), "markersize": 4}
        axes.plot(line.index, line["mean"], linewidth=1.3, **marks, **look(number))
        if line["size"].max() > 1:
            axes.fill_between(
                line.index, line["min"], line["max"], color=look(number)["color"], alpha=0.12, linewidth=0
            )
    axes.tick_params(labelsize=8)


def sweep(points: pd.DataFrame, axis: str, warning: str = "") -> Figure | None:
    """Dice by what was varied: a panel for all tasks and for each, a line a family of arms, its intervals as bars.

    points is what `results.sweeps.sweep` gives; axis says what was varied. A dotted line is the family's baseline where
    that does not vary with it. None where nothing was varied.
    """
    if points.empty or points["mean"].isna().all():
        return None
    tasks = [task for task in points["task"].unique() if points.loc[points["task"] == task, "mean"].notna().any()]
    families = list(points["family"].unique())
    figure, axes = panels(len(tasks), 3, (3.0, 2.3), families)
    ordinal = points["x"].dtype.kind not in "if"
    places = {value: place for place, value in enumerate(dict.fromkeys(points["x"]))}
    for panel, task in zip(axes, tasks, strict=True):
        for number, family in enumerate(families):
            part = points[(points["task"] == task) & (points["family"] == family)]
            x = part["x"].map(places) if ordinal else part["x"]
            _draw_family(panel, x.to_numpy(dtype=float) + 0.04 * number * ordinal, part, number)
        panel.set_title("All tasks" if task == ALL else text(task), fontsize=9)
        panel.set(xlabel=axis, ylabel="Dice")
        if ordinal:
            names_on(panel, list(places), "x")
        else:
            _ticks(panel, sorted(points["x"].unique()), percent=axis.startswith("share"))
    legend(figure, families, lines=True)
    warn(figure, warning)
    return figure


def _draw_family(axes: Axes, x: np.ndarray, part: pd.DataFrame, number: int) -> None:
    mean, low, high = (part[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    axes.plot(x, mean, markersize=6, linewidth=1.3, **look(number))
    axes.vlines(x, low, high, color=look(number)["color"], linewidth=1.2, alpha=0.8)
    baseline = part["baseline"].dropna().unique()
    if len(baseline) == 1 and len(part) > 1:
        axes.axhline(baseline[0], color="#595959", linewidth=1, linestyle=":")


def _ticks(axes: Axes, values: Sequence[float], percent: bool) -> None:
    """Ticks where something was run; shares that span a factor of four on a logarithmic axis."""
    if percent and min(values) > 0 and max(values) >= 4 * min(values):
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{100 * value:.3g} %" if percent else f"{value:g}" for value in values], fontsize=8)
    axes.minorticks_off()


def ablations(rows: pd.DataFrame, warning: str = "") -> Figure | None:
    """Mean Dice over all tasks of each variant with its interval. rows is what `results.sweeps.ablations` gives."""
    rows = rows[rows["mean"].notna()]
    if rows.empty:
        return None
    figure = Figure(figsize=(7.0, 1.3 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys(rows["kind"]))
    at = np.arange(len(rows))
    axes.hlines(at, rows["low"], rows["high"], color="#333333", linewidth=1.6)
    for number, kind in enumerate(kinds):
        here = (rows["kind"] == kind).to_numpy()
        axes.plot(
            rows["mean"][here], at[here], **look(number) | {"linestyle": "none"}, markersize=7, markeredgecolor="black"
        )
    names_on(axes, list(rows["arm"]))
    axes.set(xlabel="mean Dice over all tasks")
    warn(figure, warning)
    return figure
