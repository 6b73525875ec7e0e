"""Arms against the baseline and their controls: paired differences, intervals, tests, and what could have been shown.

A row's numbers are those of its units (cases, or patients where a task has several cases of one; see `results.pairs`):
the BCa interval of the mean, Wilcoxon's test, and Holm's correction over all tasks × backbones of one question. All
intervals are at 95 %. Nothing here says which arm is to be believed: `results.verdicts` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results import pairs
from results.bootstrap import mean_intervals, percentile_intervals, two_level
from results.samples import by_size, of_each, spread
from results.significance import MIN_PAIRS, cohen_dz, detectable, holm, rank_biserial, wilcoxon

Floats = NDArray[np.float64]

#: The columns of `comparisons` and `over_tasks`.
COLUMNS = (
    *("task", "modality", "arm", "backbone", "control", "question", "against", "n", "unit", "mean", "median", "low"),
    *("high", "p", "p_holm", "effect", "dz", "detectable", "dropped", "note"),
)
#: The columns of `means`.
MEANS = (
    *("task", "modality", "arm", "backbone", "control", "n", "unit", "mean", "median", "low", "high"),
    *("case_sd", "seed_sd", "seeds"),
)
_WORDS = ["task", "modality", "arm", "backbone", "control", "question", "against", "unit", "dropped", "note"]
NOT_RUN = "not run"
#: The task of rows over tasks.
ALL = "all"


@dataclass(frozen=True)
class _Sample:
    """What one row is computed from: one value a unit, and the words of the row."""

    words: dict[str, Any]
    values: Floats


def comparisons(
    frame: pd.DataFrame, trials: pd.DataFrame, metric: str = "dice", draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """A row a task × arm × question, as `results.pairs.questions` asks them, with COLUMNS.

    n: units with a value in both arms, `unit` says of what; mean, median: of arm minus other; low, high: BCa interval
    of the mean; p: Wilcoxon, missing below 6 units; p_holm: over all tasks × backbones of the question, within one kind
    of arm; effect: rank-biserial correlation; dz: Cohen's; detectable: the mean difference that a paired t test with n
    units has 80 % power to find, before Holm; dropped: cases × labels without a value in both arms; note: in words.

    frame, trials: from `results.summary.long_table` and `trial_table`. ValueError for an unknown metric.
    """
    samples = list(_differences(frame, trials, metric))
    rows = _described(samples, mean_intervals([sample.values for sample in samples], draws, seed))
    return rows.assign(p_holm=holm(rows["p"], rows["control"] + " " + rows["question"]))[list(COLUMNS)]


def over_tasks(
    frame: pd.DataFrame, trials: pd.DataFrame, metric: str = "dice", draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """A row a modality × arm × question, then `all` × arm × question, with COLUMNS; the column task is `all`.

    The units are tasks: the mean is over tasks of each task's mean difference, p is Wilcoxon's over those, p_holm over
    modalities × backbones, or over backbones for all tasks. low, high: percentiles of a bootstrap that draws tasks and
    then the units within each. Over a single task, the row is that task's own, with its units.
    """
    scopes = _scopes(list(_differences(frame, trials, metric)), ("arm", "question"))
    samples = [_merged(scope) for scope in scopes]
    intervals = _scope_intervals(scopes, draws, seed)
    rows = _described(samples, intervals)
    family = (rows["modality"] == ALL).astype(str) + rows["control"] + " " + rows["question"]
    return rows.assign(p_holm=holm(rows["p"], family))[list(COLUMNS)]


def means(
    frame: pd.DataFrame, trials: pd.DataFrame, metric: str = "dice", draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """A row a task × arm with a score, then modality × arm and `all` × arm with task `all`, with MEANS.

    mean, median, low, high, as in `comparisons` and `over_tasks`, of the scores themselves. case_sd: over units (over
    tasks, where they are the units). seed_sd: over seeds of the arm's mean in a task, on the cases that every seed has;
    missing with one seed, and over tasks. seeds: how many.
    """
    return means_of_each(frame, trials, (metric,), draws, seed).drop(columns="metric")


def means_of_each(
    frame: pd.DataFrame, trials: pd.DataFrame, metrics: Sequence[str], draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """The rows of `means` of several metrics at once, with a column `metric`; they share what is drawn."""
    samples = [sample for metric in metrics for sample in _arm_scores(frame, trials, metric)]
    scopes = _scopes(samples, ("metric", "arm"))
    merged = [_merged(scope) for scope in scopes]
    intervals = [
        mean_intervals([sample.values for sample in samples], draws, seed),
        _scope_intervals(scopes, draws, seed),
    ]
    rows = _middles([*samples, *merged], np.concatenate(intervals))
    rows["case_sd"] = spread([sample.values for sample in (*samples, *merged)])
    rows["metric"] = pd.Series([sample.words["metric"] for sample in (*samples, *merged)], dtype="str")
    seeds = pd.concat([_seed_spread(frame, trials, metric).assign(metric=metric) for metric in metrics])
    return rows.merge(seeds, on=["metric", "task", "arm"], how="left")[["metric", *MEANS]]


def _differences(frame: pd.DataFrame, trials: pd.DataFrame, metric: str) -> Iterator[_Sample]:
    """The samples of every question that was planned or run in a task."""
    asked = pairs.questions(trials).to_dict("records")
    seeds = _seeds(trials)
    for table in pairs.task_scores(frame, trials, metric):
        rows = [row for row in asked if seeds.keys() >= {(table.task, row["arm"]), (table.task, row["against"])}]
        run = [{row["arm"], row["against"]} <= set(table.arms) for row in rows]
        arms, against = ([row[name] for row in compress(rows, run)] for name in ("arm", "against"))
        found = zip(table.differences(arms, against).T, table.dropped(arms, against), strict=True)
        for row, was_run in zip(rows, run, strict=True):
            values, dropped = next(found) if was_run else (np.zeros(0), 0)
            note = _unequal(seeds[table.task, row["arm"]], seeds[table.task, row["against"]]) if was_run else NOT_RUN
            words = {"task": table.task, "modality": table.modality, **row, "unit": table.unit}
            yield _Sample(words | {"dropped": int(dropped), "note": note}, values[~np.isnan(values)])


def _seeds(trials: pd.DataFrame) -> dict[tuple[str, str], list[int]]:
    """task, arm -> the seeds that are complete; a key for each that was planned."""
    seeds: dict[tuple[str, str], set[int]] = {}
    columns = (trials[name].to_list() for name in ("task", "arm", "seed", "status"))
    for task, arm, seed, status in zip(*columns, strict=True):
        seeds.setdefault((task, arm), set()).update([seed] if status == "complete" else [])
    return {key: sorted(found) for key, found in seeds.items()}


def _arm_scores(frame: pd.DataFrame, trials: pd.DataFrame, metric: str) -> Iterator[_Sample]:
    arms = pairs.named_arms(trials)[["arm", "backbone", "control"]].to_dict("records")
    for table in pairs.task_scores(frame, trials, metric):
        rows = [row for row in arms if row["arm"] in table.arms]
        for row, values in zip(rows, table.scores([row["arm"] for row in rows]).T, strict=True):
            words = {"task": table.task, "modality": table.modality, "metric": metric, **row, "unit": table.unit}
            yield _Sample(words, values[~np.isnan(values)])


def _described(samples: Sequence[_Sample], intervals: Floats) -> pd.DataFrame:
    values = [sample.values for sample in samples]
    tests = {"p": wilcoxon(values), "effect": rank_biserial(values), "dz": cohen_dz(values)}
    notes = [_note(sample) for sample in samples]
    return _middles(samples, intervals).assign(**tests, detectable=detectable(values), note=notes)


def _middles(samples: Sequence[_Sample], intervals: Floats) -> pd.DataFrame:
    """The words of each sample, n, mean, median, low and high."""
    values = [sample.values for sample in samples]
    return pd.DataFrame([sample.words for sample in samples], columns=_WORDS).assign(
        n=[len(sample) for sample in values],
        mean=of_each(values, lambda values_KN: values_KN.mean(1)),
        median=of_each(values, lambda values_KN: np.median(values_KN, axis=1)),
        low=intervals[:, 0],
        high=intervals[:, 1],
    )


def _note(sample: _Sample) -> str:
    """What a reader must know of a row, in words."""
    n, words = len(sample.values), sample.words
    notes = [words["note"]]
    if n < MIN_PAIRS and NOT_RUN not in words["note"]:
        notes.append(f"too few {words['unit']}s for a test: {n}, and it needs {MIN_PAIRS}")
    if n > 1 and np.ptp(sample.values) == 0:
        notes.append("all differences are equal")
    if words["dropped"]:
        notes.append(f"{words['dropped']} cases × labels left out: no value in both arms")
    return "; ".join(note for note in notes if note)


def _unequal(mine: list[int], theirs: list[int]) -> str:
    """Means over other numbers of seeds are not equally noisy, which a paired test cannot see."""
    if mine == theirs:
        return ""
    return f"seeds {', '.join(map(str, mine))} against {', '.join(map(str, theirs))}"


def _scopes(samples: list[_Sample], keys: tuple[str, ...]) -> list[list[_Sample]]:
    """The samples of the tasks of a modality, then of all tasks, that share the keys. Those without values are left out
    where others have some."""
    modalities = sorted({sample.words["modality"] for sample in samples})
    groups: dict[tuple[str, ...], list[_Sample]] = {}
    for scope in (*modalities, ALL):
        for sample in samples:
            if sample.words["modality"] == scope or scope == ALL:
                groups.setdefault((scope, *(sample.words[key] for key in keys)), []).append(sample)
    scopes = []
    for (scope, *_), group in groups.items():
        some = [sample for sample in group if len(sample.values)] or group[:1]
        of = f"{len(some)} of {len(group)} tasks" if 0 < len(some) < len(group) else ""
        scopes.append([_Sample(sample.words | {"modality": scope, "of": of}, sample.values) for sample in some])
    return scopes


def _merged(scope: list[_Sample]) -> _Sample:
    """A scope as one sample: a task's own, or the means of several tasks."""
    words = scope[0].words | {"task": ALL}
    notes = [words.get("note", "")]
    if len(scope) > 1:
        unequal = any(sample.words.get("note") for sample in scope)
        notes = ["seeds differ between the arms in some tasks" if unequal else ""]
        words |= {"unit": "task", "dropped": sum(sample.words.get("dropped", 0) for sample in scope)}
    words["note"] = "; ".join(note for note in (*notes, words.pop("of")) if note)
    if len(scope) == 1:
        return _Sample(words, scope[0].values)
    return _Sample(words, np.round([sample.values.mean() for sample in scope], pairs.DECIMALS))


def _scope_intervals(scopes: list[list[_Sample]], draws: int, seed: int) -> Floats:
    """(scopes, 2): BCa over one task, else the bootstrap over tasks and units; the same sizes are drawn at once."""
    found = np.full((len(scopes), 2), np.nan)
    sizes = [tuple(len(sample.values) for sample in scope) for scope in scopes]
    for size, rows in by_size(sizes).items():
        tasks = [np.stack([scopes[row][task].values for row in rows]) for task in range(len(size))]
        if len(size) == 1:
            found[rows] = mean_intervals(list(tasks[0]), draws, seed)
        else:
            found[rows] = percentile_intervals(two_level(tasks, draws, seed))
    return found


def _seed_spread(frame: pd.DataFrame, trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row a task × arm: seed_sd, seeds."""
    scores = pairs.by_seed(frame, trials, metric)
    keys = ["task", "arm"]
    seeds = scores.groupby(keys)["seed"].transform("nunique")
    shared = scores[scores.groupby([*keys, "case"])["seed"].transform("nunique") == seeds]
    each = shared.groupby([*keys, "seed"])[metric].mean()
    table = each.groupby(keys).std(ddof=1).rename("seed_sd").to_frame()
    return (
        table.join(scores.groupby(keys)["seed"].nunique().rename("seeds"), how="outer")
        .astype({"seeds": "Int64"})
        .reset_index()
    )
