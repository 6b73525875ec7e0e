"""The arms by backbone: what stands in the block's place, what it trains, and what it reaches."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.tables import MISSING, UNKNOWN, Cell, Group, Table, mean_sd, signed, span
from results.record import Status, TrialResult, arm_label

#: What stands in the block's place, by control.
PLACE = {
    "none": "nothing: the baseline",
    "pretrained": "the pre-trained block, frozen",
    "stand-in": "a tiny random twin of the architecture, frozen; nothing in it is pre-trained",
    "random": "the same block as its family initialises it, frozen",
    "shuffled": "the pre-trained block, each tensor's entries in another order, frozen",
    "identity": "nothing between the two mappers",
    "mlp": "an MLP with as many trainable parameters as the mappers",
    "depth": "encoder blocks with as many trainable parameters as the mappers",
    "trainable": "the pre-trained block, trained",
    "lora": "the pre-trained block, frozen, with a trained LoRA",
    "reference": "another model, trained from scratch",
    "external": "no arm of ours: predictions made elsewhere",
}

_COLUMNS = (
    "Arm",
    "In the block's place",
    "Trainable parameters",
    "Frozen parameters",
    "Dice",
    "To the baseline",
    "n of expected",
)


def controls_table(records: Sequence[TrialResult], trials: pd.DataFrame, modalities: pd.DataFrame) -> Table:
    """A group a backbone, then one of the reference models; a row an arm.

    trials and modalities are what `trial_table` and `by_modality` give.
    """
    names = dict(zip(trials["digest"], trials["arm"], strict=True))
    costs: dict[str, list[dict[str, float]]] = {}
    for record in records:
        if record.status is Status.COMPLETE:
            costs.setdefault(names[record.spec.digest], []).append(record.cost)
    overall = modalities[modalities["modality"] == "all"]
    groups, rows = [], []
    for backbone, part in overall.groupby(overall["backbone"].mask(overall["control"] == "reference", ""), sort=False):
        members = [_row(row, costs.get(str(row["arm"]), [])) for _, row in part.iterrows()]
        first = str(part["control"].iloc[0])  # which says if it is a stand-in
        title = {"none": "Baseline", "": "Reference models"}.get(str(backbone), arm_label(str(backbone), first))
        rows += [{"Group": title, **dict(zip(_COLUMNS, member, strict=True))} for member in members]
        groups.append(Group(title, tuple(tuple(Cell(text) for text in member) for member in members)))
    caption = (
        "The arms of each backbone: what stands in the block's place, trainable and frozen parameters (a range where "
        "tasks differ), mean Dice over all tasks ± SD over tasks, and the difference to the baseline."
    )
    return Table("controls", caption, _COLUMNS, tuple(groups), pd.DataFrame(rows), frozenset(_COLUMNS[2:]))


def _row(row: pd.Series, costs: Sequence[dict[str, float]]) -> tuple[str, ...]:
    parameters = (
        span([cost[name] for cost in costs if name in cost]) if costs else UNKNOWN
        for name in ("trainable_parameters", "frozen_parameters")
    )
    return (
        str(row["arm"]),
        PLACE[row["control"]],
        *parameters,
        mean_sd(row["dice_mean"], row["dice_sd"]),
        signed(row["dice_difference"]) or MISSING,
        str(row["n of expected"]),
    )
