"""Two runs beside each other: the arms and tasks that both have, on the same cases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results import summary
from results.arms import arm_key, arm_names
from results.bootstrap import bca, percentile_intervals, resample_weights
from results.record import Status, TrialResult

Floats = NDArray[np.float64]

_PAIR = ["task", "arm", "label", "case"]
#: Above this many, cases are counted and not named.
_FEW = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """rows: task, arm, a, b, difference (b − a), low, high, cases, trials_a and trials_b (complete ones).

    The rows of the task `all` are means over an arm's tasks, and sums of cases and trials. low, high: the 95 % interval
    of the difference by a bootstrap over cases (patients, where they have several): BCa, of `all` percentiles over
    tasks and cases. Missing for one case.

    Means are over the cases and classes that both runs have a value for, seeds averaged within a case, then cases, then
    classes: a difference is always that of the same cases. only_a and only_b say what the other run does not have,
    unpaired which tasks could not be compared, settings what the two runs set otherwise.
    """

    rows: pd.DataFrame
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    unpaired: tuple[str, ...]
    settings: tuple[str, ...]


def compare(
    a: Sequence[TrialResult], b: Sequence[TrialResult], metric: str = "dice", draws: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare the complete trials of two runs in one of `results.summary.METRICS`."""
    trials = _named_alike(a, b)
    left, right = (_scores(records, trials) for records in (a, b))
    changed = _changed_data(a, b)
    pairs = left[[*_PAIR, "patient", metric]].merge(right[[*_PAIR, metric]], on=_PAIR, suffixes=("_a", "_b"))
    pairs = pairs[~pairs["task"].isin(changed)].dropna()
    unpaired = tuple(f"{task}: its data are not the same, so its cases are not either" for task in changed)
    rows = _rows(pairs, metric, summary.arms(trials), _trials(trials, a).to_frame("a").assign(b=_trials(trials, b)))
    rows = _with_intervals(rows, pairs, metric, draws, seed)
    return Comparison(
        rows,
        _only(left, right, changed),
        _only(right, left, changed),
        unpaired,
        _settings(a, b, set(pairs["task"])),
    )


def _named_alike(a: Sequence[TrialResult], b: Sequence[TrialResult]) -> pd.DataFrame:
    """The trials of both runs, with one name an arm. A setting that only the runs differ in makes no arms of it."""
    trials = summary.trial_table([*a, *b])
    names = arm_names(*([record.spec for record in records] for records in (a, b)))
    arms = {record.spec.digest: names[arm_key(record.spec)] for record in (*a, *b)}
    return trials.assign(arm=trials["digest"].map(arms))


def _scores(records: Sequence[TrialResult], trials: pd.DataFrame) -> pd.DataFrame:
    frame = summary.long_table(records)
    patients = frame.drop_duplicates(["task", "case"])[["task", "case", "patient"]]
    return summary.case_scores(frame, trials).merge(patients, on=["task", "case"], how="left")


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


def _with_intervals(rows: pd.DataFrame, pairs: pd.DataFrame, metric: str, draws: int, seed: int) -> pd.DataFrame:
    ends, replicates = {}, dict[str, list[Floats]]()
    for (task, arm), part in pairs.groupby(["task", "arm"], sort=False):
        wide = part.assign(d=part[f"{metric}_b"] - part[f"{metric}_a"]).pivot(
            index=["patient", "case"], columns="label", values="d"
        )
        unit_N = pd.factorize(wide.index.get_level_values("patient"))[0]
        units = int(unit_N.max()) + 1
        weights_BU = resample_weights(units, draws, np.random.default_rng([seed, units]))
        again_B = _label_means(wide.to_numpy(), weights_BU[:, unit_N])
        replicates.setdefault(str(arm), []).append(again_B)
        if units > 1:
            without_U = _label_means(wide.to_numpy(), 1.0 - np.eye(units)[:, unit_N])
            observed = _label_means(wide.to_numpy(), np.ones((1, len(unit_N))))
            ends[task, arm] = bca(observed, again_B[None], without_U[None])[0]
    for name, again in replicates.items():
        if len(again) > 1:
            ends["all", name] = percentile_intervals(_over_tasks(np.stack(again), seed)[None])[0]
    found = [ends.get((row.task, row.arm), (np.nan, np.nan)) for row in rows.itertuples()]
    made = rows.assign(low=[low for low, _ in found], high=[high for _, high in found])
    return made[[*(name for name in rows.columns[:5]), "low", "high", *rows.columns[5:]]]


def _label_means(values_NL: Floats, weights_BN: Floats) -> Floats:
    """(B,): weighted means over cases within each label, then over labels; what is missing is left out."""
    there_NL = ~np.isnan(values_NL)
    counts_BL = weights_BN @ there_NL
    sums_BL = weights_BN @ np.where(there_NL, values_NL, 0.0)
    means_BL = np.divide(sums_BL, counts_BL, out=np.full(sums_BL.shape, np.nan), where=counts_BL > 1e-12)
    drawn_BL = ~np.isnan(means_BL)
    return np.where(drawn_BL, means_BL, 0.0).sum(1) / np.maximum(drawn_BL.sum(1), 1)


def _over_tasks(replicates_TB: Floats, seed: int) -> Floats:
    """(B,): means over tasks that are drawn anew, each with a draw of its cases."""
    tasks, draws = replicates_TB.shape
    rng = np.random.default_rng([seed, tasks])
    chosen_BT = rng.integers(0, tasks, (draws, tasks)), rng.integers(0, draws, (draws, tasks))
    return replicates_TB[chosen_BT].mean(1)


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
