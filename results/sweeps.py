"""What was varied on purpose: the fraction of the cases, the layer, the block's place, and settings of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from results import summary
from results.arms import Arm, differing
from results.record import arm_label, share_label
from results.statistics import ALL

#: What can be swept → an arm's value of it, and what its name says of it.
SWEPT: dict[str, Callable[[Arm], tuple[Any, str]]] = {
    "fraction": lambda arm: (arm.fraction, f", {share_label(arm.fraction)}"),
    "layer": lambda arm: (arm.layer, f"@{arm.layer}"),
    "placement": lambda arm: (arm.chosen.get("placement"), f", placement {arm.chosen.get('placement')}"),
}
_PLACES = ("before", "before+middle", "middle", "before+after", "middle+after", "after")


def sweep(trials: pd.DataFrame, means: pd.DataFrame, of: str) -> pd.DataFrame:
    """A row a task (`all` first) × arm of a family with at least two values of what was swept, one of SWEPT.

    Columns: task, family (the arm's name without the value), arm, backbone, control, x, mean, low, high, baseline.
    means: from `results.statistics`. baseline: the mean of the arm's own baseline; missing for a baseline itself.
    """
    found = summary.described(trials)
    baselines = summary.controls_of(trials, "none")
    members = []
    for name, arm in found.items():
        x, said = SWEPT[of](arm)
        if x is not None and not (of == "placement" and arm.control == "none"):
            members.append((name, name.replace(said, "", 1), x))
    table = pd.DataFrame(members, columns=["arm", "family", "x"])
    table = table[table.groupby("family")["x"].transform("nunique") > 1]
    scores = means[(means["task"] != ALL) | (means["modality"] == ALL)]
    value = scores.set_index(["task", "arm"])["mean"]
    rows = table.merge(scores, on="arm")
    rows["baseline"] = [
        value.get((task, baselines.get(arm, "")), float("nan")) for task, arm in rows[["task", "arm"]].values
    ]
    rows = rows.assign(_all=rows["task"] != ALL, _family=pd.factorize(rows["family"])[0], _x=rows["x"].map(_place))
    rows = rows.sort_values(["_all", "task", "_family", "_x"], kind="stable", ignore_index=True)
    columns = ["task", "family", "arm", "backbone", "control", "x", "mean", "low", "high", "baseline"]
    return rows[columns]


def ablations(trials: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """A row an arm of which the model's settings were varied, but for its block's place: kind, arm, the settings that
    differ (a column each), and its mean over all tasks with low and high.
    """
    found = summary.described(trials)
    kinds: dict[tuple[str, str], dict[str, Arm]] = {}
    for name, arm in found.items():
        kinds.setdefault((arm.backbone, arm.control), {})[name] = arm
    overall = means[(means["task"] == ALL) & (means["modality"] == ALL)].set_index("arm")
    rows = []
    for (backbone, control), arms in kinds.items():
        varied = sorted(differing(arms.values()) - {"placement"})
        alike = Counter(_aside(arm) for arm in arms.values())
        for name, arm in arms.items() if varied else ():
            if alike[_aside(arm)] < 2:  # a layer, fraction or place that was run with one setting only
                continue
            row = {"kind": arm_label(backbone, control), "arm": name} | {one: arm.chosen.get(one) for one in varied}
            numbers = {one: overall[one].get(name, float("nan")) for one in ("mean", "low", "high")}
            rows.append(row | numbers)
    last = ["mean", "low", "high"]
    # As objects: a number stays a whole one beside arms that have no such setting.
    frame = pd.DataFrame(rows, columns=None if rows else ["kind", "arm", *last], dtype=object)
    frame = frame.astype(dict.fromkeys(last, float))
    return frame[[*(name for name in frame if name not in last), *last]]


def _aside(arm: Arm) -> tuple[Any, ...]:
    """What else may differ between variants of a model, and has figures of its own."""
    return (arm.layer, arm.fraction, arm.chosen.get("placement"))


def _place(value: Any) -> Any:
    return _PLACES.index(value) if value in _PLACES else value
