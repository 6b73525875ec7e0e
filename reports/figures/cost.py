"""Cost against Dice."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from reports.figures.look import legend, legend_inches, look, text, warn


def cost(costs: pd.DataFrame, arms: Sequence[str], warning: str = "") -> Figure | None:
    """Hours a trial against mean Dice over all tasks, a mark an arm; further down and right is dearer and worse.

    costs is what `results.costs.by_arm` gives. None where no arm has both.
    """
    rows = costs[costs["hours_a_trial"].notna() & costs["dice"].notna()]
    if rows.empty:
        return None
    figure = Figure(figsize=(6.6, 3.6 + legend_inches(arms, 6.6)), layout="constrained")
    axes = figure.subplots()
    for number, arm in enumerate(arms):
        for row in rows[rows["arm"] == arm].itertuples(index=False):
            one = look(number) | {"linestyle": "none"}
            axes.plot([row.hours_a_trial], [row.dice], **one, markersize=8, markeredgecolor="black")
    if rows["hours_a_trial"].max() > 5 * rows["hours_a_trial"].min() > 0:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    units = " and ".join(sorted(rows["unit"].unique()))
    axes.set(xlabel=text(f"{units} a trial"), ylabel="mean Dice over all tasks")
    axes.margins(0.12)
    legend(figure, [*arms])
    warn(figure, warning)
    return figure
