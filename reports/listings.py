"""The tables that hold no scores: data, weights, cost, failures, settings and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from reports.tables import MISSING, UNKNOWN, Table, plain, span
from results import summary
from results.record import Status, TrialResult

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
        key = (arms[spec.digest], spec.layer, spec.weights)
        blank = UNKNOWN if spec.weights.sha256 else MISSING
        found[key] = {
            "Arm": arms[spec.digest],
            "Layer": MISSING if spec.layer is None else spec.layer,
            "Weights": spec.weights.label,
            "Source": spec.weights.source or blank,
            "SHA-256": spec.weights.sha256 or blank,
            "Licence": spec.weights.licence or blank,
        }
    rows = pd.DataFrame(found.values())
    order = summary.arms(trials)
    rows = rows.sort_values("Arm", key=lambda names: names.map(order.index), kind="stable")
    return plain(
        "weights",
        "The block of each arm. The baseline has none; random weights are made, not read from a file.",
        rows,
    )


def cost_table(records: Sequence[TrialResult], trials: pd.DataFrame) -> Table:
    """What an arm cost over its complete trials: median step, greatest memory, sums of the seconds."""
    arms = dict(zip(trials["digest"], trials["arm"], strict=True))
    rows = []
    for arm in summary.arms(trials):
        costs = [r.cost for r in records if r.status is Status.COMPLETE and arms[r.spec.digest] == arm]
        if not costs:
            continue
        rows.append(
            {
                "Arm": arm,
                "Trials": len(costs),
                "Trainable parameters": span(_values(costs, "trainable_parameters")),
                "Frozen parameters": span(_values(costs, "frozen_parameters")),
                "Steps": span(_values(costs, "steps")) if _values(costs, "steps") else UNKNOWN,
                "Seconds a step": _number(costs, "seconds_a_step", "median", ".3f"),
                "Peak memory (MiB)": _number(costs, "peak_memory_bytes", "max", ",.0f", 2**-20),
                "Training (s)": _number(costs, "train_seconds", "sum", ",.1f"),
                "Scoring (s)": _number(costs, "score_seconds", "sum", ",.1f"),
            }
        )
    caption = (
        "Cost of each arm over its complete trials: parameters and steps (ranges where trials differ), median seconds "
        "a step, the greatest peak memory of a trial's process, and the sums of training and scoring time."
    )
    frame = pd.DataFrame(rows)
    return plain("cost", caption, frame, frame.columns[1:])


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


def _values(costs: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [cost[name] for cost in costs if cost.get(name) is not None]


def _number(costs: Sequence[dict[str, Any]], name: str, how: str, form: str, scale: float = 1.0) -> str:
    values = _values(costs, name)
    return format(pd.Series(values).agg(how) * scale, form) if values else UNKNOWN
