"""Three questions, and only three times yes is a gain."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from results import statistics, verdicts
from results.verdicts import Answer, Verdict
from tests.results import generated

KINDS = {
    Answer.YES: {"n": 20, "low": 0.01, "high": 0.2, "p_holm": 0.01, "note": ""},
    Answer.NO: {"n": 20, "low": -0.2, "high": -0.01, "p_holm": 0.01, "note": ""},
    Answer.NOT_SHOWN: {"n": 20, "low": -0.1, "high": 0.2, "p_holm": 0.01, "note": ""},
    Answer.TOO_FEW: {"n": 5, "low": 0.1, "high": 0.2, "p_holm": np.nan, "note": "too few cases for a test"},
    Answer.NOT_RUN: {"n": 0, "low": np.nan, "high": np.nan, "p_holm": np.nan, "note": "not run"},
}


def rows(*answers, control="pretrained", task="T1", questions=tuple(verdicts.ASKED)):
    words = {"task": task, "modality": "MRI", "arm": "smol", "backbone": "smol", "control": control}
    return pd.DataFrame([words | {"question": q} | KINDS[found] for q, found in zip(questions, answers, strict=True)])


def judged(*answers, phantom=(), **settings):
    table = verdicts.verdicts(rows(*answers, **settings), phantom)
    assert tuple(table.columns) == verdicts.COLUMNS and len(table) == 1
    return table.iloc[0]


def test_only_three_times_yes_is_a_gain():
    for answers in product(KINDS, repeat=3):
        row = judged(*answers)
        assert tuple(row[list(verdicts.ASKED)]) == answers
        assert row["gain"] == (answers == (Answer.YES,) * 3) == (row["verdict"] == "a gain from pre-training")
        lost = {Answer.NO, Answer.NOT_SHOWN} & set(answers)
        if not row["gain"]:
            assert row["verdict"] == (Verdict.NO_GAIN if lost else Verdict.UNANSWERED)


def test_answers_are_words_and_the_reason_gives_all_three_in_order():
    row = judged(Answer.YES, Answer.NOT_SHOWN, Answer.NOT_RUN)
    assert f"{row['baseline']}, {row['random']}, {row['mlp']}" == "yes, not shown, not run"
    asked = "Does the arm beat the baseline? yes; Does it beat its own frozen-random twin? not shown; "
    assert row["because"] == asked + "Does it beat the parameter-matched control? not run"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"p_holm": 0.05}, Answer.NOT_SHOWN),
        ({"p_holm": 0.049}, Answer.YES),
        ({"low": 0.0}, Answer.NOT_SHOWN),
        ({"low": -0.01}, Answer.NOT_SHOWN),
        ({"low": -0.2, "high": -0.1}, Answer.NO),
        ({"low": -0.2, "high": 0.0}, Answer.NOT_SHOWN),
        ({"p_holm": np.nan}, Answer.TOO_FEW),
    ],
)
def test_an_interval_and_a_test_must_agree(change, expected):
    table = rows(Answer.YES, questions=("baseline",)).assign(**change)
    assert verdicts.answered(table)["answer"].iloc[0] == expected


def test_a_question_that_was_not_asked_was_not_run():
    row = judged(Answer.YES, Answer.YES, questions=("baseline", "random"))
    assert row["mlp"] == Answer.NOT_RUN and row["verdict"] == Verdict.UNANSWERED and not row["gain"]


def test_further_controls_do_not_decide():
    row = judged(*[Answer.YES] * 3, Answer.NO, questions=(*verdicts.ASKED, "depth"))
    assert row["gain"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"control": "stand-in"}, "stand-in weights"),
        ({"phantom": ["T1"]}, "phantom data"),
        ({"control": "stand-in", "phantom": ["T1"]}, "stand-in weights and phantom data"),
        ({"task": "all", "phantom": ["T9"]}, "phantom data"),
    ],
)
def test_stand_ins_and_phantoms_never_gain(settings, why):
    row = judged(*[Answer.YES] * 3, **settings)
    assert not row["gain"] and row["verdict"] == Verdict.BARRED and row["because"] == why
    assert row["baseline"] == Answer.YES  # the numbers stay what they are


def test_another_tasks_phantom_does_not_bar():
    assert judged(*[Answer.YES] * 3, phantom=["T2"])["gain"]


@pytest.mark.parametrize("control", ["random", "mlp", "shuffled", "trainable", "lora", "identity"])
def test_controls_have_no_verdict(control):
    assert verdicts.verdicts(rows(Answer.YES, questions=("baseline",), control=control)).empty


def test_from_records_to_verdicts():
    gains = {"pretrained": 0.1, "random": 0.04, "mlp": 0.04}
    frame, trials = generated.study(tasks=7, cases=25, noise=0.03, gain=gains)
    both = [call(frame, trials, draws=500) for call in (statistics.comparisons, statistics.over_tasks)]
    table = verdicts.verdicts(pd.concat(both))
    assert len(table) == 7 + 3 and set(table["arm"]) == {"smol"}
    tasks, over = table[table["task"] != "all"], table[table["task"] == "all"].set_index("modality")
    assert tasks["gain"].all() and over.loc["all", "gain"]
    assert over.loc["CT", "verdict"] == Verdict.UNANSWERED  # three tasks are too few
    gone = frame[frame["control"] != "mlp"], trials[trials["control"] != "mlp"]
    table = verdicts.verdicts(statistics.comparisons(*gone, draws=500))
    assert not table["gain"].any() and set(table["mlp"]) == {Answer.NOT_RUN}


def test_capacity_alone_is_no_gain():
    """An arm that beats the baseline as its twin does owes it to capacity."""
    gains = {"pretrained": 0.1, "random": 0.1, "mlp": 0.1}
    frame, trials = generated.study(tasks=4, cases=25, noise=0.03, gain=gains)
    table = verdicts.verdicts(statistics.comparisons(frame, trials, draws=500))
    assert set(table["baseline"]) == {Answer.YES} and set(table["verdict"]) == {Verdict.NO_GAIN}
