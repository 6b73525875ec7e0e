"""How often a gain is found where there is none, and where there is one: by simulation, seeded.

Each share is held against its nominal level with an explicit tolerance: the count that a binomial of that level exceeds
once in a thousand times. The noise is skewed and heavy, as Dice is.
"""

from itertools import count

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from results import significance, statistics, verdicts
from results.verdicts import Answer
from tests.results import generated

#: A two-sided test at 0.05 calls an arm better by chance in half of that.
ONE_SIDE = 0.025


def at_most(found, level):
    """Whether so many finds can be chance at this level."""
    return found.sum() <= stats.binom.ppf(0.999, found.size, level)


def answers(studies, tasks=1, draws=1000, **settings):
    """comparisons with answers: `studies` studies of `tasks` tasks in a frame, Holm's correction within each."""
    frame, trials = generated.study(tasks=studies * tasks, **settings)
    rows = statistics.comparisons(frame, trials, draws=draws)
    study = pd.factorize(rows["task"])[0] // tasks
    family = rows["control"] + rows["question"] + study.astype(str)
    return verdicts.answered(rows.assign(study=study, p_holm=significance.holm(rows["p"], family)))


def gains(rows):
    """study × task -> whether the arm wins all three questions."""
    table = verdicts.verdicts(rows.assign(modality=rows["study"].astype(str)))
    return table.groupby("modality")["gain"].any()


@pytest.mark.parametrize("cases", [6, 12, 40])
def test_no_difference_is_rarely_called_one(cases):
    rows = answers(400, cases=cases, seed=cases)
    for question in verdicts.ASKED:
        found = rows[(rows["question"] == question) & (rows["control"] == "pretrained")]["answer"]
        assert len(found) == 400
        assert at_most(found == Answer.YES, ONE_SIDE) and at_most(found == Answer.NO, ONE_SIDE), question
        assert at_most(found != Answer.NOT_SHOWN, 2 * ONE_SIDE), question
    assert at_most(gains(rows), ONE_SIDE)


def test_in_a_study_of_many_tasks_the_level_is_that_of_the_study():
    rows = answers(150, tasks=5, cases=12, arms=generated.many_arms(2), draws=500, seed=1)
    for question in verdicts.ASKED:
        some = rows[(rows["question"] == question) & (rows["control"] == "pretrained")]
        assert at_most((some["answer"] == Answer.YES).groupby(some["study"]).any(), ONE_SIDE), question
    uncorrected = verdicts.answered(rows.assign(p_holm=rows["p"]))
    some = uncorrected[(uncorrected["question"] == "baseline") & (uncorrected["control"] == "pretrained")]
    assert not at_most((some["answer"] == Answer.YES).groupby(some["study"]).any(), ONE_SIDE)


def test_capacity_alone_is_rarely_called_a_gain():
    """The hardest case: the twin gains as much as the arm, and the matched control gains nothing."""
    rows = answers(400, cases=12, gain={"pretrained": 0.2, "random": 0.2}, seed=2)
    found = rows[(rows["control"] == "pretrained")].set_index(["question", "task"])["answer"]
    assert (found["baseline"] == Answer.YES).mean() > 0.99 and (found["mlp"] == Answer.YES).mean() > 0.99
    assert at_most(gains(rows), ONE_SIDE)


def test_a_real_gain_is_found():
    rows = answers(200, cases=12, gain={"pretrained": 0.1}, seed=3)
    assert gains(rows).mean() > 0.75
    less = answers(200, cases=12, gain={"pretrained": 0.03}, seed=3)
    assert 0.02 < gains(less).mean() < gains(rows).mean()


def test_cases_of_one_patient_are_not_taken_for_independent():
    settings = {"arms": generated.ARMS[:2], "cases": 32, "patients": 8, "patient_noise": 0.1, "noise": 0.02}
    rows = answers(300, seed=4, **settings)
    assert set(rows["unit"]) == {"patient"} and at_most(rows["answer"] != Answer.NOT_SHOWN, 2 * ONE_SIDE)
    frame, trials = generated.study(tasks=300, seed=4, **settings)
    alone = statistics.comparisons(frame.assign(patient=frame["case"]), trials, draws=300)
    naive = verdicts.answered(alone.assign(p_holm=alone["p"]))
    assert set(naive["unit"]) == {"case"} and (naive["answer"] != Answer.NOT_SHOWN).mean() > 0.2


def over(studies, tasks, draws=300, **settings):
    """over_tasks, a study a modality, p-values as they are."""
    modalities = [f"study{number:04d}" for number in range(studies)]
    frame, trials = generated.study(tasks=studies * tasks, modalities=modalities, **settings)
    rows = statistics.over_tasks(frame, trials, draws=draws)
    rows = rows[(rows["modality"] != "all") & (rows["control"] == "pretrained")]
    return verdicts.answered(rows.assign(p_holm=rows["p"]))


def test_over_tasks_no_difference_is_rarely_called_one():
    """Arms differ in each task, and not on the whole: what holds of many cases of few tasks must not be believed."""
    rows = over(100, tasks=8, cases=8, arms=generated.ARMS[:2], task_noise=0.05, seed=5)
    assert len(rows) == 100 and set(rows["n"]) == {8}
    assert at_most(rows["answer"] != Answer.NOT_SHOWN, 2 * ONE_SIDE)
    rows = over(50, tasks=8, cases=8, arms=generated.ARMS[:2], task_noise=0.05, gain={"pretrained": 0.15}, seed=6)
    assert (rows["answer"] == Answer.YES).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("cases", [6, 8, 12, 25, 50])
def test_false_gains_at_full_size(cases):
    """2,000 studies, 10,000 draws: no difference, and capacity alone."""
    for seed, gain in zip(count(cases), ({}, {"pretrained": 0.2, "random": 0.2}), strict=False):
        rows = answers(2000, draws=10_000, cases=cases, gain=gain, seed=seed)
        assert at_most(gains(rows), ONE_SIDE)
        twin = rows[rows["question"] == "random"]
        assert at_most(twin["answer"] == Answer.YES, ONE_SIDE) and at_most(twin["answer"] == Answer.NO, ONE_SIDE)


@pytest.mark.slow
def test_false_gains_of_whole_studies_at_full_size():
    """400 studies of ten tasks and two backbones, by the verdicts over tasks and by task."""
    rows = answers(400, tasks=10, cases=12, arms=generated.many_arms(2), draws=10_000, seed=7)
    for question in verdicts.ASKED:
        some = rows[(rows["question"] == question) & (rows["control"] == "pretrained")]
        assert at_most((some["answer"] == Answer.YES).groupby(some["study"]).any(), ONE_SIDE)
    assert at_most(gains(rows), ONE_SIDE)
    rows = over(1000, tasks=10, cases=10, draws=2000, task_noise=0.05, seed=8)
    for _, some in rows.groupby("question"):
        assert at_most(some["answer"] != Answer.NOT_SHOWN, 2 * ONE_SIDE)


@pytest.mark.slow
@pytest.mark.parametrize(("cases", "least"), [(20, 0.90), (50, 0.92), (200, 0.93)])
def test_intervals_hold_the_truth_nearly_as_often_as_they_say(cases, least):
    """The difference of skewed scores is symmetric around 0, so that is what 95 % of intervals should hold."""
    rows = answers(2000, cases=cases, arms=generated.ARMS[:2], draws=10_000, seed=9)
    held = ((rows["low"] <= 0) & (rows["high"] >= 0)).to_numpy()
    assert least <= held.mean() <= 0.97 and np.isfinite(rows[["low", "high"]]).all(axis=None)
