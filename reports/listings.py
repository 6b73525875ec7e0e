"""The tables that hold no scores: data, weights, cost, failures, settings and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from reports.tables import MISSING, UNKNOWN, Table, plain, span
from results import summary
from results.record import TrialResult, Weights

#: Settings with more values than this are said to vary, not listed.
_MANY = 4


def data_table(records: Sequence[TrialResult]) -> Table:
    """Table 1: a row a task, with the number of training and held-out cases (a range where folds differ in it)."""
    rows = []
    for name in sorted({record.task.name for record in records}):
        tasks = [record.task for record in records if record.task.name == name]
        first = tasks[0]
        rows.append(
            {
                "Task": name,
                "Modality": first.modality,
                "Data": first.origin,
                "Channels": ", ".join(first.channels),
                "Classes": ", ".join(first.labels),
                "Training cases": span([task.training_cases for task in tasks]),
                "Held-out cases": span([task.held_out_cases for task in tasks]),
                "Source": first.source or UNKNOWN,
                "Licence": first.licence or UNKNOWN,
                "Notice": first.notice,
            }
        )
    frame = pd.DataFrame(rows)
    caption = "The tasks, and how many cases each trial trained on and was scored on."
    if frame["Notice"].nunique() == 1:  # said once, not in every row
        caption = f"{caption} {frame['Notice'][0]}".strip()
        frame = frame.drop(columns="Notice")
    return plain("data", caption, frame, ("Training cases", "Held-out cases"))


def weights_table(records: Sequence[TrialResult], trials: pd.DataFrame) -> Table:
    """Where each arm's block came from, with the full SHA-256 of the file that was read."""
    arms = dict(zip(trials["digest"], trials["arm"], strict=True))
    found = {}
    for record in records:
        spec = record.spec
        for layer, read in _read(record):
            blank = UNKNOWN if read.sha256 else MISSING
            found[arms[spec.digest], layer, read] = {
                "Arm": arms[spec.digest],
                "Layer": MISSING if layer is None else layer,
                "Weights": read.label,
                "Source": read.source or blank,
                "SHA-256": read.sha256 or blank,
                "Licence": read.licence or blank,
            }
    rows = pd.DataFrame(found.values())
    order = summary.arms(trials)
    rows = rows.sort_values("Arm", key=lambda names: names.map(order.index), kind="stable")
    return plain(
        "weights",
        "The block of each arm. The baseline has none; random weights are made, not read from a file.",
        rows,
    )


def _read(record: TrialResult) -> Iterator[tuple[int | None, Weights]]:
    """The layer and weights of a record's block, and of the block at a second place where another layer was read."""
    spec = record.spec
    yield spec.layer, spec.weights
    if second := record.second_weights:
        yield spec.block["second_layer"], second


def cost_table(costs: pd.DataFrame) -> Table:
    """What an arm cost over its complete trials. costs is what `results.costs.by_arm` gives."""
    rows = [
        {
            "Arm": row.arm,
            "Trials": row.trials,
            "Parameters": _range(row.least_parameters, row.most_parameters),
            "Trainable": _range(row.least_trainable, row.most_trainable),
            "Steps": _range(row.least_steps, row.most_steps),
            "Seconds a step": _number(row.seconds_a_step, ".3f"),
            "Peak memory (MiB)": _number(row.peak_memory_bytes, ",.0f", 2**-20),
            **{unit: _number(row.hours if row.unit == unit else None, ",.3g") for unit in sorted(set(costs["unit"]))},
            "Hours a trial": _number(row.hours_a_trial, ",.3g"),
            "Dice": MISSING if pd.isna(row.dice) else f"{row.dice:.3f}",
            "Dice per hour": _number(row.dice_an_hour, ",.3g"),
        }
        for row in costs.itertuples(index=False)
    ]
    frame = pd.DataFrame(rows).rename(columns=lambda name: f"{name[0].upper()}{name[1:]}")
    shown = plain("cost", _COST, frame, frame.columns[1:])
    return replace(shown, frame=costs)


_COST = (
    "Cost of each arm over its complete trials: parameters, all and trainable and steps (a range where trials "
    "differ), median seconds a step, the greatest peak memory of a trial's process, and hours: those of preparing, "
    "training and scoring, times workers and, on a CPU, the threads of each. Dice per hour: mean Dice over all "
    "tasks, over the hours of one trial."
)


def _range(least: float | None, most: float | None) -> str:
    return UNKNOWN if pd.isna(least) or pd.isna(most) else span([int(least), int(most)])  # type: ignore[arg-type]


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return UNKNOWN if value is None or pd.isna(value) else format(value * scale, form)


def failure_table(records: Sequence[TrialResult], trials: pd.DataFrame) -> Table:
    """A row a trial that failed (its error in full) or that was planned and left no record."""
    errors = {record.spec.digest: record.error for record in records}
    undone = trials[trials["status"] != "complete"]
    frame = pd.DataFrame(
        {
            "Task": undone["task"],
            "Arm": undone["arm"],
            "Seed": undone["seed"],
            "Fold": undone["fold"],
            "Status": undone["status"],
            "Error": [
                errors.get(digest, "no record: not run yet, or ended from outside") for digest in undone["digest"]
            ],
        }
    )
    return plain("failures", "Planned trials that are not complete. They are in no mean.", frame, ("Seed", "Fold"))


def settings_table(records: Sequence[TrialResult]) -> Table:
    """Every resolved setting that is part of a trial's identity, and its value or values."""
    values: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for part in ("train", "model", "data", "block"):
            for name, value in getattr(record.spec, part).items():
                values.setdefault((part, name), []).append(_text(value))
    rows = [{"Part": part, "Setting": name, "Value": _distinct(seen)} for (part, name), seen in sorted(values.items())]
    frame = pd.DataFrame(rows, columns=["Part", "Setting", "Value"])
    return plain("settings", "Resolved settings of the trials.", frame)


def provenance_table(records: Sequence[TrialResult]) -> Table:
    """Where the numbers were made: every distinct value over the records that tell (failed ones may not)."""
    told = [record.provenance for record in records if record.provenance]
    rows = [("Started", _edge(told, "started", min)), ("Finished", _edge(told, "finished", max))]
    for name in (
        "host",
        "device",
        "threads",
        "workers",
        "commit",
        "dirty",
        "python",
        "platform",
        "crop",
        "preparation",
    ):
        rows.append((_TITLES.get(name, name.capitalize()), _distinct([_text(p[name]) for p in told if name in p])))
    versions = [p["versions"] for p in told if isinstance(p.get("versions"), dict)]
    for package in sorted({package for one in versions for package in one}):
        rows.append((f"{package} version", _distinct([_text(one[package]) for one in versions if package in one])))
    for task in sorted({record.task.name for record in records}):
        specs = [record.spec for record in records if record.task.name == task]
        rows.append((f"Data, split digest of {task}", _distinct(f"{s.data_digest}, {s.split_digest}" for s in specs)))
    frame = pd.DataFrame(rows, columns=["What", "Value"])
    return plain("provenance", "Where and with what the trials were run.", frame)


_TITLES = {
    "crop": "Crop, fitted to each task",
    "dirty": "Uncommitted changes",
    "preparation": "Preparation, from the training cases",
    "python": "Python",
    "threads": "Threads a worker",
    "workers": "Workers a trial",
}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)


def _distinct(values: Iterable[str]) -> str:
    """The distinct values in order, `unknown` for none, and how many there are where they are many."""
    found = list(dict.fromkeys(values))
    if len(found) > _MANY:
        return f"{', '.join(found[:_MANY])} and {len(found) - _MANY} more"
    return ", ".join(found) or UNKNOWN


def _edge(told: Sequence[dict[str, Any]], name: str, choose: Any) -> str:
    times = [str(one[name]) for one in told if one.get(name)]
    return str(choose(times)) if times else UNKNOWN
