"""A run folder as tidy frames: what `results.load` gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results import store, summary
from results.record import Status, TrialResult

#: What names a trial in every frame. Join frames on `digest`.
_KEYS = ["task", "arm", "seed", "fold", "digest"]
#: The numbers of an epoch.
_CURVE = ("loss", "dice", "validation_dice")


@dataclass(frozen=True, eq=False)
class Run:
    """The frames of a run. In all of them `arm` is the name that people read, and `digest` names the trial.

    scores: a row a complete trial × case × label, with counts and ratios (`results.summary.COLUMNS`, and `arm`).
    trials: a row a trial that has a record, with its `status` and, of failed ones, its `error`.
    curves: a row a trial × epoch: step, mean loss and Dice of the training crops, and the Dice of a few crops of
    held-out cases, validation_dice (missing where not taken).
    cost: a row a complete trial, with the numbers of its record's `cost`; missing where it does not tell one.
    """

    scores: pd.DataFrame
    trials: pd.DataFrame
    curves: pd.DataFrame
    cost: pd.DataFrame


def read(run: Path) -> Run:
    """The frames of a run folder. RecordError where it has no record, or a damaged one."""
    records = store.read(run)
    if not records:
        raise store.RecordError(f"no trial record in {run / 'trials'}; give the folder that `bench run --out` wrote")
    return of(records)


def of(records: Sequence[TrialResult]) -> Run:
    """The frames of records."""
    trials = summary.trial_table(records)
    errors = {record.spec.digest: record.error for record in records}
    trials = trials.assign(error=trials["digest"].map(errors))
    names = dict(zip(trials["digest"], trials["arm"], strict=True))
    return Run(_scores(records, names), trials, _curves(records, names), _cost(records, names))


def _scores(records: Iterable[TrialResult], names: dict[str, str]) -> pd.DataFrame:
    """The long table; its rows are those of the records, in their order."""
    frame = summary.long_table(records)
    return frame.assign(arm=frame["digest"].map(names))


def _curves(records: Iterable[TrialResult], names: dict[str, str]) -> pd.DataFrame:
    rows = [
        _trial(record, names) | {name: point.get(name) for name in ("step", *_CURVE)}
        for record in records
        for point in record.curve
    ]
    types = dict.fromkeys(("seed", "fold", "step"), "int64") | dict.fromkeys(_CURVE, "float64")
    return pd.DataFrame(rows, columns=[*_KEYS, "step", *_CURVE]).astype(types)


def _cost(records: Iterable[TrialResult], names: dict[str, str]) -> pd.DataFrame:
    rows = [
        _trial(record, names) | {name: value for name, value in record.cost.items() if isinstance(value, int | float)}
        for record in records
        if record.status is Status.COMPLETE
    ]
    frame = pd.DataFrame(rows)
    return frame if len(frame) else pd.DataFrame(columns=_KEYS)


def _trial(record: TrialResult, names: dict[str, str]) -> dict[str, Any]:
    spec = record.spec
    return dict(zip(_KEYS, (spec.task, names[spec.digest], spec.seed, spec.fold, spec.digest), strict=True))
