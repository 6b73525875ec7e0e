"""Which trial's prediction stands for an arm in the pictures of a case, and which cases are worth a picture."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results import metrics
from results.record import Status, TrialResult

_CASE = ["task", "case"]


def shown_trials(records: Sequence[TrialResult], trials: pd.DataFrame) -> pd.DataFrame:
    """A row a task × arm × case: task, arm, case, `key` of its first complete trial (by seed, then fold), and `dice`.

    dice is that trial's own, labels averaged: what is read beside a picture belongs to the picture. trials is what
    `trial_table` gives, and its order is kept.
    """
    done = {record.spec.digest: record for record in records if record.status is Status.COMPLETE}
    rows: list[tuple[str, str, str, str, int, int, int, int]] = []
    for task, arm, digest in zip(trials["task"], trials["arm"], trials["digest"], strict=True):
        if digest in done:
            key = done[digest].spec.key  # a hash of the whole specification: once a trial, not once a score
            rows += [(task, arm, one.case, key, one.tp, one.fp, one.fn, one.tn) for one in done[digest].cases]
    frame = pd.DataFrame(rows, columns=["task", "arm", "case", "key", "tp", "fp", "fn", "tn"])
    counts = [frame.pop(name) for name in ("tp", "fp", "fn", "tn")]
    frame["dice"] = metrics.dice(*counts)
    mean = frame.groupby(["task", "arm", "case", "key"], sort=False, as_index=False)["dice"].mean()
    return mean.drop_duplicates(["task", "arm", "case"], ignore_index=True)


def choose(shown: pd.DataFrame) -> dict[str, str]:
    """Case → why it is shown, of one task: the first by name, then the best, the median and the worst by Dice.

    Of each case Dice is averaged over arms, so that no arm has its favourite shown; only cases that most arms were
    scored on compete. A case that is two of these is named once, with both reasons.
    """
    reasons: dict[str, str] = {}
    if shown.empty:
        return reasons
    by_case = shown.groupby("case")["dice"].agg(["count", "mean"])
    ranked = by_case[(by_case["count"] > 0) & (by_case["count"] == by_case["count"].max())]
    ranked = ranked.sort_values("mean", kind="stable")  # equals stay in the order of their names
    places = [("first", by_case.index.min(), "")]
    for why, place in (("best", -1), ("median", (len(ranked) - 1) // 2), ("worst", 0)):
        if len(ranked):
            places.append((why, ranked.index[place], f" {ranked['mean'].iloc[place]:.3f}"))
    for why, case, value in places:
        reasons[case] = f"{reasons[case]}, {why}{value}" if case in reasons else f"{why}{value}"
    return reasons


def spread(shown: pd.DataFrame) -> pd.DataFrame:
    """A row a task × case, the one in which arms differ most first: task, case, `spread` (greatest Dice − least).

    A case with one score or none has the spread 0.
    """
    dice = shown.groupby(_CASE)["dice"]
    table = (dice.max() - dice.min()).fillna(0.0).rename("spread").reset_index()
    return table.sort_values(["spread", *_CASE], ascending=[False, True, True], ignore_index=True)
