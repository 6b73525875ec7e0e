"""What an arm cost: parameters, time, memory, and the hours of cores or GPUs it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from results import summary
from results.record import Status, TrialResult

_SECONDS = ("prepare_seconds", "train_seconds", "score_seconds")
#: The columns of `by_arm`.
COLUMNS = (
    *("arm", "trials", "least_parameters", "most_parameters", "least_trainable", "most_trainable", "least_steps"),
    *("most_steps", "seconds_a_step", "peak_memory_bytes", "unit", "hours", "hours_a_trial", "dice", "dice_an_hour"),
)


def by_arm(records: Sequence[TrialResult], trials: pd.DataFrame, modalities: pd.DataFrame) -> pd.DataFrame:
    """A row an arm with a complete trial, in reading order, with COLUMNS; what no record tells is missing.

    Parameters, trained or not, and steps: the least and the most over trials. seconds_a_step: median;
    peak_memory_bytes: the greatest. unit: `core hours`, or `GPU hours` where trials ran on one. hours: their sum over
    trials, of preparing, training and scoring, times workers (and threads of each, on cores). dice: mean over all
    tasks; dice_an_hour: that, over hours_a_trial. trials and modalities: from `results.summary`.
    """
    arms = dict(zip(trials["digest"], trials["arm"], strict=True))
    of_arm: dict[str, list[TrialResult]] = {}
    for record in records:
        if record.status is Status.COMPLETE:
            of_arm.setdefault(arms[record.spec.digest], []).append(record)
    dice = modalities[modalities["modality"] == "all"].set_index("arm")["dice_mean"]
    rows = [
        {"arm": arm, "dice": dice.get(arm, float("nan"))} | _row(of_arm[arm])
        for arm in summary.arms(trials)
        if arm in of_arm
    ]
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "dice_an_hour"])
    frame["dice_an_hour"] = (frame["dice"] / frame["hours_a_trial"]).where(frame["hours_a_trial"] > 0)
    return frame[list(COLUMNS)]


def _row(records: Sequence[TrialResult]) -> dict[str, Any]:
    costs = [record.cost for record in records]
    trainable = [one["trainable_parameters"] for one in costs if "trainable_parameters" in one]
    total = [one["trainable_parameters"] + one["frozen_parameters"] for one in costs
             if {"trainable_parameters", "frozen_parameters"} <= one.keys()]  # fmt: skip
    steps = [one["steps"] for one in costs if "steps" in one]
    hours = [_hours(record) for record in records]
    known = [one for one in hours if one is not None]
    complete = len(known) == len(hours)
    return {
        "trials": len(records),
        "least_parameters": min(total, default=None),
        "most_parameters": max(total, default=None),
        "least_trainable": min(trainable, default=None),
        "most_trainable": max(trainable, default=None),
        "least_steps": min(steps, default=None),
        "most_steps": max(steps, default=None),
        "seconds_a_step": _aggregate(costs, "seconds_a_step", "median"),
        "peak_memory_bytes": _aggregate(costs, "peak_memory_bytes", "max"),
        "unit": " and ".join(sorted({_unit(record) for record in records})),
        "hours": sum(known) if complete else None,
        "hours_a_trial": sum(known) / len(known) if complete else None,
    }


def _unit(record: TrialResult) -> str:
    return "GPU hours" if str(record.provenance.get("device", "")).startswith("cuda") else "core hours"


def _hours(record: TrialResult) -> float | None:
    """None where the record does not tell the time, or on how many cores it was."""
    told = [record.cost[name] for name in _SECONDS if record.cost.get(name) is not None]
    threads = 1 if _unit(record) == "GPU hours" else record.provenance.get("threads")
    if not told or threads is None:
        return None
    return float(sum(told)) * float(record.provenance.get("workers", 1)) * float(threads) / 3600


def _aggregate(costs: Sequence[dict[str, Any]], name: str, how: str) -> float | None:
    values = [one[name] for one in costs if one.get(name) is not None]
    return float(pd.Series(values).agg(how)) if values else None
