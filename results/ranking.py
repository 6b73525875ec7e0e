"""Arms over tasks: mean ranks with intervals, where differences are significant, and whether seeds agree.

Rank 1 is best, whether that is the most of a metric or the least; equal scores share the mean of their ranks. Arms are
ranked on the cases, and over the tasks, of which every one of them has a score: an arm that failed somewhere shrinks
what all are ranked on, and the counts say so.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from results import pairs
from results.bootstrap import percentile_intervals, two_level
from results.pairs import DECIMALS
from results.statistics import ALL
from results.verdicts import answered

Floats = NDArray[np.float64]


def ranks(
    frame: pd.DataFrame, trials: pd.DataFrame, metric: str = "dice", draws: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """A row an arm that has a score, the best first: arm, backbone, control, tasks, mean_rank, low, high.

    tasks: over how many tasks. mean_rank: of the arm's mean score in each. low, high: the middle 95 % of the mean
    rank in a bootstrap that draws tasks and then cases (patients) within each. Missing where no task has every arm.
    """
    better = pairs.direction(metric)
    tables = list(pairs.task_scores(frame, trials, metric))
    arms = pairs.named_arms(trials)
    arms = arms[arms["arm"].isin({arm for table in tables for arm in table.arms})]
    names = list(arms["arm"])
    scored = (better * table.scores(names) for table in tables if set(names) <= set(table.arms))
    complete = (scores_UA[~np.isnan(scores_UA).any(axis=1)].T for scores_UA in scored)
    tasks = [scores_AU for scores_AU in complete if scores_AU.shape[1]]
    middle, ends = np.full(len(names), np.nan), np.full((len(names), 2), np.nan)
    if tasks and names:
        middle = np.mean([_ranked(scores_AU.mean(1)) for scores_AU in tasks], axis=0)
        ends = percentile_intervals(two_level(tasks, draws, seed, of=_ranked))
    found = arms[["arm", "backbone", "control"]].assign(
        tasks=len(tasks), mean_rank=middle, low=ends[:, 0], high=ends[:, 1]
    )
    return found.sort_values("mean_rank", kind="stable").reset_index(drop=True)


def significance_map(comparisons: pd.DataFrame, question: str = "baseline", metric: str = "dice") -> pd.DataFrame:
    """Tasks as rows, arms as columns, `results.verdicts.Answer` as values; missing where it was not planned.

    comparisons: of `results.statistics`, in this metric. yes: better than what the question compares with; no: worse.
    """
    rows = answered(comparisons[comparisons["question"] == question], metric)
    table = rows.pivot(index="task", columns="arm", values="answer")
    return table.reindex(index=pd.unique(rows["task"]), columns=pd.unique(rows["arm"]))


def stability(frame: pd.DataFrame, trials: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """A row a task × pair of seeds, then task `all`: task, seed_a, seed_b, tau, arms.

    tau: Kendall's tau-b between the arms' rankings by either seed alone, over the arms (at least two) that both seeds
    have; missing where a seed ranks all of them equal. `all` compares mean ranks over the tasks of which both seeds
    have every arm. Seeds are compared on the cases that all arms have in both.
    """
    scores = pairs.by_seed(frame, trials, metric)
    scores = scores.assign(**{metric: pairs.direction(metric) * scores[metric]})
    cases = scores.pivot(index=["task", "case"], columns=["seed", "arm"], values=metric)
    rows, everywhere = [], []
    for a, b in combinations(sorted(scores["seed"].unique()), 2):
        ranked = {}
        for task, values in cases.groupby(level="task", sort=False):
            both = _of_both(values, a, b)
            if both.shape[1] >= 2 and len(both.columns):
                ranked[task] = both
                rows.append((task, a, b, _tau(*both.to_numpy()), both.shape[1]))
        arms = max((set(both.columns) for both in ranked.values()), key=len, default=set())
        complete = [both[sorted(arms)].to_numpy() for both in ranked.values() if set(both.columns) == arms]
        if complete:
            everywhere.append((ALL, a, b, _tau(*np.mean(complete, axis=0)), len(arms)))
    return pd.DataFrame([*rows, *everywhere], columns=["task", "seed_a", "seed_b", "tau", "arms"])


def _of_both(values: pd.DataFrame, a: int, b: int) -> pd.DataFrame:
    """Two rows, the ranks of the arms that both seeds have, on the cases that these arms have in both."""
    of_a, of_b = (values[seed].dropna(axis=1, how="all") for seed in (a, b))
    arms = of_a.columns.intersection(of_b.columns)
    whole = of_a[arms].notna().all(axis=1) & of_b[arms].notna().all(axis=1)
    both = np.stack([of_a.loc[whole, arms].mean(), of_b.loc[whole, arms].mean()])
    return pd.DataFrame(_ranked(both), columns=arms).dropna(axis=1)


def _ranked(scores: Floats) -> Floats:
    """Ranks along the last axis, the highest score first; scores that differ by rounding alone are equal."""
    return stats.rankdata(-np.round(scores, DECIMALS), axis=-1)


def _tau(a: Floats, b: Floats) -> float:
    return float(stats.kendalltau(a, b).statistic)
