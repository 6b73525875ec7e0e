"""Two runs beside each other: the arms and tasks that both have, on the same cases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from results import summary
from results.record import Status, TrialResult

_PAIR = ["task", "arm", "label", "case"]
#: Above this many, cases are counted and not named.
_FEW = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """rows: task, arm, a, b, difference (b − a), cases, trials_a and trials_b (complete ones).

    The rows of the task `all` are means over an arm's tasks, and sums of cases and trials.

    Means are over the cases and classes that both runs have a value for, seeds averaged within a case, then cases, then
    classes: a difference is always that of the same cases. only_a and only_b say what the other run does not have,
    unpaired which tasks could not be compared, settings what the two runs set otherwise.
    """

    rows: pd.DataFrame
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    unpaired: tuple[str, ...]
    settings: tuple[str, ...]


def compare(a: Sequence[TrialResult], b: Sequence[TrialResult], metric: str = "dice") -> Comparison:
    """Compare the complete trials of two runs in one of `results.summary.METRICS`."""
    trials = summary.trial_table([*a, *b])  # of both, so that an arm has one name
    left, right = (summary.case_scores(summary.long_table(records), trials) for records in (a, b))
    changed = _changed_data(a, b)
    pairs = left[[*_PAIR, metric]].merge(right[[*_PAIR, metric]], on=_PAIR, suffixes=("_a", "_b"))
    pairs = pairs[~pairs["task"].isin(changed)].dropna()
    unpaired = tuple(f"{task}: its data are not the same, so its cases are not either" for task in changed)
    rows = _rows(pairs, metric, summary.arms(trials), _trials(trials, a).to_frame("a").assign(b=_trials(trials, b)))
    return Comparison(
        rows,
        _only(left, right, changed),
        _only(right, left, changed),
        unpaired,
        _settings(a, b, set(pairs["task"])),
    )


def _trials(trials: pd.DataFrame, records: Iterable[TrialResult]) -> pd.Series:
    """How many of these records are complete, by task and arm."""
    done = {record.spec.digest for record in records if record.status is Status.COMPLETE}
    return trials["digest"].isin(done).groupby([trials["task"], trials["arm"]]).sum()


def _rows(pairs: pd.DataFrame, metric: str, order: Sequence[str], counts: pd.DataFrame) -> pd.DataFrame:
    keys, sides = ["task", "arm"], {f"{metric}_a": "a", f"{metric}_b": "b"}
    labels = pairs.groupby([*keys, "label"])[list(sides)].mean()
    means = labels.groupby(keys).mean().rename(columns=sides)
    means = means.assign(cases=pairs.groupby(keys)["case"].nunique()).join(counts.add_prefix("trials_")).reset_index()
    sums = dict.fromkeys(("cases", "trials_a", "trials_b"), "sum")
    overall = means[means.duplicated("arm", keep=False)].groupby("arm").agg({"a": "mean", "b": "mean"} | sums)
    rows = pd.concat([means, overall.reset_index().assign(task="all")], ignore_index=True)
    rows = rows.assign(difference=rows["b"] - rows["a"], _arm=rows["arm"].map(order.index), _all=rows["task"] == "all")
    rows = rows.sort_values(["_all", "task", "_arm"], ignore_index=True)
    return rows[[*keys, "a", "b", "difference", *sums]]


def _changed_data(a: Iterable[TrialResult], b: Iterable[TrialResult]) -> list[str]:
    """Tasks of both runs whose data are not the same: a case's name says nothing then."""
    left, right = ({(r.spec.task, r.spec.data_digest) for r in records} for records in (a, b))
    ours, theirs, alike = ({task for task, _ in found} for found in (left, right, left & right))
    return sorted((ours & theirs) - alike)


def _only(ours: pd.DataFrame, theirs: pd.DataFrame, changed: Iterable[str]) -> tuple[str, ...]:
    """What one run was scored on and the other was not: tasks, then arms, then an arm in a task, then cases of it."""
    found: list[str] = []
    ours = ours[~ours["task"].isin(list(changed))]
    for name in ("task", "arm"):
        missing = [one for one in ours[name].unique() if one not in set(theirs[name])]
        found += [f"{name} {one}" for one in missing]
        ours = ours[~ours[name].isin(missing)]
    cases = {key: set(part) for key, part in theirs.groupby(["task", "arm"])["case"]}
    for (task, arm), part in ours.groupby(["task", "arm"], sort=False)["case"]:
        if (task, arm) not in cases:
            found.append(f"{task} with {arm}")
        elif more := sorted(set(part) - cases[task, arm]):
            names = f": {', '.join(more)}" if len(more) <= _FEW else ""
            found.append(f"{task} with {arm}, {len(more)} case{'s' * (len(more) > 1)}{names}")
    return tuple(found)


def _settings(a: Iterable[TrialResult], b: Iterable[TrialResult], tasks: set[str]) -> tuple[str, ...]:
    """`train.steps: 100 in A, 200 in B`: a setting a sentence that the compared tasks were not run alike with."""
    left, right = (_values(record for record in records if record.spec.task in tasks) for records in (a, b))
    return tuple(
        f"{name}: {_told(left.get(name))} in A, {_told(right.get(name))} in B"
        for name in sorted(left | right)
        if left.get(name) != right.get(name)
    )


def _values(records: Iterable[TrialResult]) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for record in records:
        if record.status is Status.COMPLETE:
            for part in ("train", "model", "data", "block"):
                for name, value in getattr(record.spec, part).items():
                    values.setdefault(f"{part}.{name}", set()).add(json.dumps(value))
    return values


def _told(values: set[str] | None) -> str:
    return " or ".join(sorted(values)) if values else "not set"
