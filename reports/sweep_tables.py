"""Tables of what was varied on purpose: fractions, layers, places of the block, settings of the model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.tables import MISSING, Cell, Group, Table, interval, signed
from results.arms import said
from results.record import share_label
from results.statistics import ALL

_HEADS = {"fraction": "Training cases", "layer": "Layer", "placement": "Place"}
_NAMES = {"fraction": "few_shot", "layer": "layers", "placement": "placements"}


def sweep_table(points: pd.DataFrame, of: str) -> Table:
    """Dice over all tasks by what was swept, a group a family of arms. The CSV has every task."""
    columns = ("Arm", _HEADS[of], "Dice [95 %]", "Its baseline", "Difference")
    overall = points[points["task"] == ALL]
    groups = []
    for family, part in overall.groupby("family", sort=False):
        groups.append(Group(str(family), tuple(_row(row, of) for row in part.itertuples(index=False))))
    caption = (
        "Mean Dice over all tasks with its interval (bootstrap over tasks and cases), beside the baseline of the same "
        "fraction and settings. The difference here is one of means; Table 5 pairs the cases."
    )
    return Table(_NAMES[of], caption, columns, tuple(groups), points, frozenset(columns[2:]))


def _row(row: Any, of: str) -> tuple[Cell, ...]:
    x = share_label(row.x).removesuffix(" of cases") if of == "fraction" else str(row.x)
    baseline = MISSING if pd.isna(row.baseline) else f"{row.baseline:.3f}"
    shown = (row.arm, x, interval(row.mean, row.low, row.high), baseline, signed(row.mean - row.baseline) or MISSING)
    return tuple(map(Cell, shown))


def ablation_table(rows: pd.DataFrame, modalities: pd.DataFrame) -> Table:
    """A group a kind of arm, a row a variant: its settings, Dice, and the difference to its own baseline."""
    settings = [name for name in rows if name not in ("kind", "arm", "mean", "low", "high")]
    columns = (
        "Arm",
        *(name.replace("_", " ").capitalize() for name in settings),
        "Dice [95 %]",
        "To the baseline",
        "n of expected",
    )
    overall = modalities[modalities["modality"] == "all"].set_index("arm")
    groups = []
    for kind, part in rows.groupby("kind", sort=False):
        members = []
        for row in part.to_dict("records"):
            values = [MISSING if _unset(row[name]) else said(row[name]) for name in settings]
            difference = signed(overall["dice_difference"].get(row["arm"], float("nan"))) or MISSING
            shown = (row["arm"], *values, interval(row["mean"], row["low"], row["high"]), difference)
            members.append(tuple(map(Cell, (*shown, str(overall["n of expected"].get(row["arm"], MISSING))))))
        groups.append(Group(str(kind), tuple(members)))
    caption = (
        "Arms of the same kind that differ in settings of the segmenter: mean Dice over all tasks with its interval, "
        "and the paired difference to the baseline with the same settings."
    )
    return Table("ablations", caption, columns, tuple(groups), rows, frozenset(columns[-3:]))


def _unset(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
