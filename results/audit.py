"""How often a mask was empty, and what that did to the means: the rules of `results.metrics`, counted."""

from __future__ import annotations

import pandas as pd

#: A column of counts -> what happened to the scores that it counts.
COLUMNS = {
    "both empty": "left out of the means of every metric",
    "reference empty": "false positives alone: Dice, Jaccard, precision and NSD are 0; no sensitivity, no HD95",
    "prediction empty": "nothing was predicted: Dice, Jaccard, sensitivity and NSD are 0; no precision, no HD95",
    "hd95 penalised": "one mask is empty: no HD95; in `hd95_penalised` the image's diagonal",
}


def audit(frame: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """A row a task × arm × label, in the order of the trials: task, arm, label, cases, scores, and COLUMNS.

    frame, trials: from `results.summary.long_table` and `trial_table`. cases counts different cases, scores all of
    them (trials × cases), and each of COLUMNS is a part of scores: the first three share no score.
    """
    named = frame.assign(arm=frame["digest"].map(trials.set_index("digest")["arm"]))
    nothing_true, nothing_said = named["tp"] + named["fn"] == 0, named["tp"] + named["fp"] == 0
    flags = named[["task", "arm", "label", "case"]].assign(
        **{
            "both empty": nothing_true & nothing_said,
            "reference empty": nothing_true & ~nothing_said,
            "prediction empty": nothing_said & ~nothing_true,
            "hd95 penalised": nothing_true != nothing_said,
        }
    )
    grouped = flags.groupby(["task", "arm", "label"], sort=False)
    table = grouped[list(COLUMNS)].sum().assign(cases=grouped["case"].nunique(), scores=grouped.size())
    table = table.astype(int).reset_index()
    order = {
        pair: place for place, pair in enumerate(trials[["task", "arm"]].drop_duplicates().itertuples(False, None))
    }
    place = pd.Series([order[pair] for pair in table[["task", "arm"]].itertuples(False, None)], index=table.index)
    table = table.loc[place.sort_values(kind="stable").index]
    return table[["task", "arm", "label", "cases", "scores", *COLUMNS]].reset_index(drop=True)
