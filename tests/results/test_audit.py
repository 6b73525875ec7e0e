"""The audit of empty masks, and that the averages keep their order where masks are empty."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import summary
from results.audit import COLUMNS, audit
from tests.results import fake, generated

BOTH, FALSE_POSITIVES, NOTHING = (0, 0, 0), (0, 7, 0), (0, 0, 7)
SCORE = st.sampled_from([BOTH, FALSE_POSITIVES, NOTHING, (5, 1, 2), (5, 0, 0)])


def trial(scores, seed=0, arm=("none", "none"), task="T1", modality="MRI"):
    """scores: (case, label) → (tp, fp, fn)."""
    cases = tuple(fake.score(case, label, *counts) for (case, label), counts in scores.items())
    return fake.complete(fake.spec(task, *arm, seed=seed), fake.task(task, modality), cases)


def audited(records):
    return audit(summary.long_table(records), summary.trial_table(records))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=4), st.integers(1, 2))
def test_every_score_is_counted_where_it_belongs(rows, seeds):
    scores = {(f"p{i}_c", label): one for i, row in enumerate(rows) for label, one in zip("ab", row, strict=True)}
    found = audited([trial(scores, seed) for seed in range(seeds)])
    assert list(found.columns) == ["task", "arm", "label", "cases", "scores", *COLUMNS]
    assert (found["cases"] == len(rows)).all() and (found["scores"] == len(rows) * seeds).all()
    for row in found.to_dict("records"):
        of_label = [one for (_, label), one in scores.items() if label == row["label"]]
        told = {kind: sum(one == kind for one in of_label) * seeds for kind in (BOTH, FALSE_POSITIVES, NOTHING)}
        assert [row[name] for name in list(COLUMNS)[:3]] == list(told.values())
        assert row["hd95 penalised"] == told[FALSE_POSITIVES] + told[NOTHING]


def test_rows_are_in_reading_order_and_failed_trials_have_none():
    records = [*fake.records(2, seeds=2), fake.failure(fake.spec("Task09_Fake"), fake.task("Task09_Fake"))]
    found = audited(records)
    assert list(found["task"].unique()) == ["Task01_Fake", "Task02_Fake"] and len(found) == 2 * 3 * 2
    assert list(found["arm"].unique()) == summary.arms(summary.trial_table(records))
    assert audited(records[-1:]).empty


def test_the_counts_say_what_the_means_left_out():
    frame, trials = generated.study(tasks=2, cases=20, labels=2)
    random = np.random.default_rng(0)
    empty = pd.Series(random.random(len(frame)) < 0.3)
    frame.loc[empty, ["tp", "fp", "fn"]] = 0
    frame.loc[empty, ["nsd", "hd95"]] = np.nan
    frame = summary.with_ratios(frame)
    assert audit(frame, trials)["both empty"].sum() == frame["dice"].isna().sum() == empty.sum()


def test_averages_go_case_class_task_modality_and_pool_nothing():
    """HD95 of two classes, one of which is missing in a case: pooled, the mean would be another."""
    near, far = (8, 2, 2), (5, 5, 5)  # HD95 of 8 and 20 mm, Dice of 0.8 and 0.5, by `fake.distances`
    first = {("p0_a", "x"): near, ("p1_b", "x"): far, ("p0_a", "y"): BOTH, ("p1_b", "y"): far}
    records = [trial(first), trial({("p0_a", "x"): NOTHING, ("p1_b", "x"): near}, task="T2")]
    trials = summary.trial_table(records)
    tasks = summary.by_task(summary.case_scores(summary.long_table(records), trials), trials).set_index("task")
    one = tasks.loc["T1"]
    assert one["hd95_mean"] == pytest.approx((14 + 20) / 2)  # x: (8 + 20) / 2; y: 20. Pooled: 16
    assert one["dice_mean"] == pytest.approx((0.65 + 0.5) / 2)
    two = tasks.loc["T2"]
    assert two["hd95_mean"] == pytest.approx(8) and two["hd95_penalised_mean"] == pytest.approx((100 + 8) / 2)
    assert two["nsd_mean"] == pytest.approx(math.sqrt(0.8) / 2)
    means = summary.by_modality(tasks.reset_index()).set_index("modality")
    assert means.loc["MRI", "hd95_mean"] == pytest.approx((17 + 8) / 2) and means.loc["MRI", "tasks"] == 2


def test_seeds_are_averaged_before_cases():
    """A case that two seeds have and a case that one has weigh the same."""
    a, b = ("p0_a", "x"), ("p1_b", "x")
    records = [trial({a: (8, 2, 2), b: (5, 5, 5)}), trial({a: (6, 4, 4)}, seed=1)]
    trials = summary.trial_table(records)
    tasks = summary.by_task(summary.case_scores(summary.long_table(records), trials), trials)
    assert tasks["hd95_mean"].item() == pytest.approx(((8 + 16) / 2 + 20) / 2)
    assert tasks["dice_mean"].item() == pytest.approx((0.7 + 0.5) / 2)
