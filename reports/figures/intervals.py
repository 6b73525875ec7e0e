"""Figures of what was compared: differences with intervals, ranks with intervals, and where a difference is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.figures.look import look, names_on, panels, ranged, text, warn
from reports.figures.scores import heat_size, name_cells
from results.statistics import ALL
from results.verdicts import Answer, answered

#: Answer → what its cell is filled with and what stands in it; they differ in lightness, and the sign says which.
_CELLS = {
    Answer.YES: ("#0072B2", "+"),
    Answer.NO: ("#E69F00", "−"),
    Answer.NOT_SHOWN: ("#f3f3f3", "·"),
    Answer.TOO_FEW: ("#cfcfcf", "few"),
    Answer.NOT_RUN: ("#ffffff", ""),
}


def forest(comparisons: pd.DataFrame, overall: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Mean Dice difference to the baseline with its interval: a panel for all tasks and for each, a row an arm.

    A filled mark is a difference that is shown (interval and Holm's p), an open one is not. None where none was taken.
    """
    rows = pd.concat(
        [part for part in (overall[overall["modality"] == ALL], comparisons) if len(part)] or [comparisons]
    )
    rows = answered(rows[(rows["question"] == "baseline") & rows["mean"].notna()])
    if rows.empty:
        return None
    there = set(rows["arm"])
    names = [arm for arm in arms if arm in there]
    tasks = list(dict.fromkeys(rows["task"]))
    figure, axes = panels(len(tasks), 4, (2.5, 0.75 + 0.26 * len(names)), sharey=True)
    for panel, task in zip(axes, tasks, strict=True):
        _draw_forest(panel, rows[rows["task"] == task], names, arms)
        panel.set_title("All tasks" if task == ALL else text(task), fontsize=9)
    for panel in axes[-4:]:
        panel.set_xlabel("Dice difference", fontsize=8)
    warn(figure, warning)
    return figure


def _draw_forest(axes: Axes, rows: pd.DataFrame, names: Sequence[str], arms: Sequence[str]) -> None:
    axes.axvline(0, color="#333333", linewidth=1)
    for row in rows.itertuples(index=False):
        one = look(list(arms).index(row.arm)) | {"linestyle": "none"}
        fill = one["color"] if row.answer in (Answer.YES, Answer.NO) else "white"
        filled = {"markerfacecolor": fill, "markeredgecolor": one["color"]}
        ranged(axes, [names.index(row.arm)], [row.mean], [row.low], [row.high], **one | filled)
    names_on(axes, names)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y", visible=False)


def ranks(table: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Mean rank over tasks with its interval, the best on top. table is what `results.ranking.ranks` gives."""
    rows = table[table["mean_rank"].notna()]
    if len(rows) < 2:
        return None
    figure = Figure(figsize=(6.4, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows.itertuples(index=False)):
        one = look(list(arms).index(row.arm)) | {"linestyle": "none"}
        ranged(axes, [place], [row.mean_rank], [row.low], [row.high], **one)
    names_on(axes, list(rows["arm"]))
    axes.set(xlabel=f"mean rank over {rows['tasks'].iloc[0]} tasks (1 is best)", xlim=(0.5, len(rows) + 0.5))
    axes.grid(axis="y", visible=False)
    warn(figure, warning)
    return figure


def significance(answers: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Where an arm's difference to the baseline is shown, arm × task. answers: `results.ranking.significance_map`."""
    if answers.empty:
        return None
    answers = answers[[arm for arm in arms if arm in answers]].T
    order = [answer.value for answer in _CELLS]
    levels = answers.apply(lambda column: column.map(order.index, na_action="ignore")).fillna(len(order) - 1)
    signs = answers.apply(lambda column: column.map(lambda one: _CELLS[Answer(one)][1], na_action="ignore")).fillna("")
    figure = Figure(figsize=heat_size(answers), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False)
    colours = ListedColormap([colour for colour, _ in _CELLS.values()])
    sns.heatmap(
        levels.astype(float), ax=axes, annot=signs.to_numpy(), fmt="", cmap=colours, vmin=-0.5, vmax=len(order) - 0.5,
        cbar=False, linewidths=1, linecolor="#999999",
    )  # fmt: skip
    name_cells(axes, answers)
    there = set(np.ravel(answers.dropna().to_numpy()))
    words = {Answer.YES: "better (+)", Answer.NO: "worse (−)", Answer.NOT_SHOWN: "not shown (·)"}
    handles = [
        Patch(facecolor=colour, edgecolor="#999999", label=words.get(answer, str(answer)))
        for answer, (colour, _) in _CELLS.items()
        if answer in there
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    warn(figure, warning)
    return figure
