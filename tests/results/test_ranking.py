"""Ranks over tasks, the map of significance, and whether seeds agree."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results import ranking, statistics, summary
from tests.results import generated
from tests.results.test_statistics import MLP, NONE, SMOL, TWIN, organ, trial


def of(records):
    return summary.long_table(records), summary.trial_table(records)


def test_ranks_by_hand():
    scores = {"T1": {NONE: 0.1, SMOL: 0.3, TWIN: 0.2}, "T2": {NONE: 0.5, SMOL: 0.4, TWIN: 0.5}}
    made = [trial(task, arm, organ(a=dice, b=dice)) for task, arms in scores.items() for arm, dice in arms.items()]
    table = ranking.ranks(*of(made), draws=4000)
    assert list(table.columns) == ["arm", "backbone", "control", "tasks", "mean_rank", "low", "high"]
    rows = table.set_index("arm")
    # T1: smol 1, twin 2, none 3; T2: none and twin share 1.5, smol 3
    assert rows["mean_rank"].to_dict() == {"smol (random twin)": 1.75, "smol": 2.0, "none": 2.25}
    assert list(table["arm"]) == ["smol (random twin)", "smol", "none"] and set(table["tasks"]) == {2}
    # cases do not scatter: the draws are T1 twice, both, T2 twice
    assert rows.loc["smol", ["low", "high"]].tolist() == [1.0, 3.0]
    assert rows.loc["none", ["low", "high"]].tolist() == [1.5, 3.0]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), tasks=st.integers(1, 4), arms=st.integers(1, 2))
def test_mean_ranks_are_scipys_and_intervals_hold_them(seed, tasks, arms):
    frame, trials = generated.study(tasks=tasks, arms=generated.many_arms(arms), cases=6, seed=seed)
    rows = ranking.ranks(frame, trials, draws=200, seed=seed).set_index("arm")
    named = frame.merge(trials[["task", "backbone", "control", "arm"]].drop_duplicates())
    means = named.groupby(["task", "arm"])["dice"].mean().unstack()
    expected = pd.DataFrame(stats.rankdata(-means, axis=1), columns=means.columns).mean()
    assert rows["mean_rank"].to_dict() == pytest.approx(expected.to_dict())
    assert rows["mean_rank"].sum() == pytest.approx(len(rows) * (len(rows) + 1) / 2)
    assert (rows["low"] >= 1).all() and (rows["high"] <= len(rows)).all() and (rows["low"] <= rows["high"]).all()


def test_intervals_are_narrow_where_tasks_agree_and_wide_where_nothing_differs():
    clear = generated.study(tasks=8, cases=20, noise=0.02, gain={"pretrained": 0.3, "random": 0.2, "mlp": 0.1})
    rows = ranking.ranks(*clear, draws=500)
    assert list(rows["control"]) == ["pretrained", "random", "mlp", "none"]
    assert rows[["low", "high"]].to_numpy().tolist() == [[rank, rank] for rank in (1, 2, 3, 4)]
    rows = ranking.ranks(*generated.study(tasks=8, cases=20), draws=500)
    assert (rows["high"] - rows["low"] > 0.5).all()


def test_arms_are_ranked_where_all_of_them_are():
    made = [trial(task, arm, organ(a=0.5, b=0.4)) for task in ("T1", "T2") for arm in (NONE, SMOL, TWIN)]
    table = ranking.ranks(*of(made[:-1]), draws=100)
    assert set(table["tasks"]) == {1} and len(table) == 3
    # in T1 the twin lost case a, on which it would have lost; on case b it wins
    made = [
        trial("T1", NONE, organ(a=0.9, b=0.4)),
        trial("T1", SMOL, organ(a=0.8, b=0.5)),
        trial("T1", TWIN, organ(b=0.6)),
    ]
    rows = ranking.ranks(*of(made), draws=100).set_index("arm")
    assert rows["mean_rank"].to_dict() == {"smol (random twin)": 1, "smol": 2, "none": 3}


def test_no_task_with_every_arm_gives_no_ranks():
    table = ranking.ranks(*of([trial("T1", NONE, organ(a=0.5)), trial("T2", SMOL, organ(a=0.5))]), draws=100)
    assert len(table) == 2 and table[["mean_rank", "low", "high"]].isna().all(axis=None) and set(table["tasks"]) == {0}
    empty = summary.long_table([]), summary.trial_table([], [trial("T1", NONE, {}).spec])
    assert ranking.ranks(*empty).empty and ranking.stability(*empty).empty


def test_the_map_says_where_what_is_significant():
    gains = {"pretrained": 0.2, "random": -0.2}
    frame, trials = generated.study(tasks=3, cases=20, noise=0.03, gain=gains)
    comparisons = statistics.comparisons(frame, trials, draws=300)
    table = ranking.significance_map(comparisons)
    assert list(table.index) == ["Task0000_Made", "Task0001_Made", "Task0002_Made"]
    assert list(table.columns) == ["smol", "smol (random twin)", "smol (matched MLP)"]
    assert set(table["smol"]) == {"yes"} and set(table["smol (random twin)"]) == {"no"}
    assert list(ranking.significance_map(comparisons, "random").columns) == ["smol"]
    assert ranking.significance_map(comparisons, "depth").empty


def test_stability_by_hand():
    arms = (NONE, SMOL, TWIN, MLP)
    by_seed = {0: (0.1, 0.2, 0.3, 0.4), 1: (0.1, 0.2, 0.4, 0.3), 2: (0.4, 0.3, 0.2, 0.1)}
    made = [
        trial(task, arm, organ(a=dice, b=dice), seed=seed)
        for task in ("T1", "T2")
        for seed, row in by_seed.items()
        for arm, dice in zip(arms, row, strict=True)
    ]
    table = ranking.stability(*of(made))
    assert list(table.columns) == ["task", "seed_a", "seed_b", "tau", "arms"] and set(table["arms"]) == {4}
    rows = table.set_index(["task", "seed_a", "seed_b"])["tau"]
    for task in ("T1", "T2", "all"):
        # of six pairs of arms, seeds 0 and 1 order one otherwise, 0 and 2 all, 1 and 2 all but that one
        assert rows[task, 0, 1] == pytest.approx(4 / 6)
        assert rows[task, 0, 2] == -1 and rows[task, 1, 2] == pytest.approx(-4 / 6)


def test_stability_needs_arms_and_cases_that_both_seeds_have():
    made = [trial("T1", arm, organ(a=0.5, b=0.1), seed=0) for arm in (NONE, SMOL)]
    assert ranking.stability(*of(made)).empty
    made.append(trial("T1", NONE, organ(a=0.5, b=0.1), seed=1))
    assert ranking.stability(*of(made)).empty  # one arm has no ranking
    made.append(trial("T1", SMOL, organ(b=0.2), seed=1))
    row = ranking.stability(*of(made)).iloc[0]
    assert row["arms"] == 2 and np.isnan(row["tau"])  # on case b, seed 0 has both arms equal


def test_seeds_agree_where_arms_differ_and_not_where_nothing_does():
    gains = {"pretrained": 0.3, "random": 0.2, "mlp": 0.1}
    same = ranking.stability(*generated.study(tasks=3, seeds=3, cases=10, gain=gains, noise=0.02))
    assert (same["tau"] == 1).all() and len(same) == (3 + 1) * 3
    arms = generated.many_arms(8)
    none = ranking.stability(*generated.study(tasks=2, arms=arms, seeds=3, cases=10, noise=0.0, seed=1))
    assert none["tau"].abs().max() < 0.6
