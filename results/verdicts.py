"""Does an arm gain from pre-training? Three questions, asked in order, and the answers in words.

An arm that beats the baseline may owe it to the extra capacity, and one that beats its random twin may still be no
better than an MLP with as many parameters. Only a win in all three is a gain from pre-training. Since all three must be
won, no further correction is due between the questions.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import pandas as pd

from results.pairs import SUBJECTS, direction
from results.significance import ALPHA
from results.statistics import ALL, NOT_RUN

#: The three questions in the order in which they are answered, as `results.pairs.QUESTIONS` names them.
ASKED = {
    "baseline": "Does the arm beat the baseline?",
    "random": "Does it beat its own frozen-random twin?",
    "mlp": "Does it beat the parameter-matched control?",
}
#: The columns of `verdicts`.
COLUMNS = ("task", "modality", "arm", "backbone", "control", *ASKED, "gain", "verdict", "because")


class Answer(StrEnum):
    """What a comparison says. YES and NO are shown: the interval is on one side of 0 and Holm's p is below 0.05."""

    YES = "yes"
    NO = "no"
    NOT_SHOWN = "not shown"
    TOO_FEW = "too few cases"
    NOT_RUN = "not run"


class Verdict(StrEnum):
    """What the three answers come to."""

    GAIN = "a gain from pre-training"
    NO_GAIN = "no gain from pre-training shown"
    UNANSWERED = "not answered"
    BARRED = "no verdict"


def answer(comparison: Any, metric: str = "dice") -> Answer:
    """The answer of a row of `results.statistics.comparisons` or `over_tasks`. NO: the arm is worse.

    Worse is less of a metric, or more of one of which less is better, such as a distance.
    """
    if comparison.n == 0 and NOT_RUN in comparison.note:
        return Answer.NOT_RUN
    if pd.isna(comparison.p_holm):
        return Answer.TOO_FEW
    if comparison.p_holm >= ALPHA or comparison.low <= 0 <= comparison.high:
        return Answer.NOT_SHOWN
    more = comparison.low > 0
    return Answer.YES if more == (direction(metric) > 0) else Answer.NO


def answered(comparisons: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """The same rows with a column `answer`: the text of an Answer, to which it is equal. metric is what they are of."""
    answers = [answer(row, metric).value for row in comparisons.itertuples(index=False)]
    return comparisons.assign(answer=pd.Series(answers, index=comparisons.index, dtype="str"))


def verdicts(comparisons: pd.DataFrame, phantom: Iterable[str] = (), metric: str = "dice") -> pd.DataFrame:
    """A row a scope × arm that carries a pre-trained block or stands in for one, with COLUMNS.

    comparisons: rows of `comparisons`, of `over_tasks`, or of both together; a scope is a task, or task `all` of a
    modality. baseline, random, mlp: the text of an Answer each, verdict: that of a Verdict. gain: all three are yes,
    the block is pre-trained and the data are images. phantom: the tasks whose data are generated; they bar every row
    over tasks too. because: why, in words.
    """
    generated = set(phantom)
    scope = ["task", "modality", "arm", "backbone", "control"]
    subjects = comparisons[comparisons["control"].isin(SUBJECTS)]
    rows = []
    for key, group in answered(subjects, metric).groupby(scope, sort=False):
        found = dict(zip(group["question"], map(Answer, group["answer"]), strict=True))
        answers = {question: found.get(question, Answer.NOT_RUN) for question in ASKED}
        words = dict(zip(scope, key, strict=True))
        barred = _barred(words, generated)
        verdict, because = (Verdict.BARRED, barred) if barred else _verdict(answers)
        rows.append(words | answers | {"gain": verdict is Verdict.GAIN, "verdict": verdict, "because": because})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _barred(words: dict[str, str], phantom: set[str]) -> str:
    """Why no verdict may be given, whatever the numbers; empty if one may."""
    reasons = ["stand-in weights"] if words["control"] == "stand-in" else []
    if words["task"] in phantom or (words["task"] == ALL and phantom):
        reasons.append("phantom data")
    return " and ".join(reasons)


def _verdict(answers: dict[str, Answer]) -> tuple[Verdict, str]:
    """One question that is lost decides; failing that, one without an answer leaves it open."""
    said = "; ".join(f"{ASKED[question]} {found}" for question, found in answers.items())
    if any(found in (Answer.NO, Answer.NOT_SHOWN) for found in answers.values()):
        return Verdict.NO_GAIN, said
    if all(found is Answer.YES for found in answers.values()):
        return Verdict.GAIN, said
    return Verdict.UNANSWERED, said
