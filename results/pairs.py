"""Which arms are compared, and the paired differences of their cases.

The order of averages: seeds within a case and label; the difference of two arms there, where both have a value; labels
within a case; and, in a task where patients have several cases, cases within a patient. What remains is one difference
a unit, and units are independent: n counts them. Folds are further cases.

Shapes: R case × label rows of a task, A arms, U units, P pairs of arms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results import metrics, summary

Floats = NDArray[np.float64]

#: A question -> the control that the arm is compared with. The first three, in this order, decide on a gain.
QUESTIONS = {
    "baseline": "none",
    "random": "random",
    "mlp": "mlp",
    "depth": "depth",
    "shuffled": "shuffled",
    "identity": "identity",
}
#: Arms that are asked every question; all others are compared with the baseline alone.
SUBJECTS = ("pretrained", "stand-in")

#: Finer than this, two scores differ by rounding alone.
DECIMALS = 12


@dataclass(frozen=True)
class TaskScores:
    """One metric of a task. values_RA: seeds averaged, missing where undefined or not recorded; recorded_RA says which.

    unit_R: the unit (a case, or a patient) of each row; case_R its case. unit is what a unit is called.
    """

    task: str
    modality: str
    unit: str
    arms: list[str]
    values_RA: Floats
    recorded_RA: NDArray[np.bool_]
    case_R: NDArray[np.intp]
    unit_R: NDArray[np.intp]

    def columns(self, arms: list[str]) -> list[int]:
        """The places of the arms."""
        return [self.arms.index(arm) for arm in arms]

    def scores(self, arms: list[str]) -> Floats:
        """(U, P): each arm's score of each unit."""
        return self._by_unit(self.values_RA[:, self.columns(arms)])

    def differences(self, arms: list[str], against: list[str]) -> Floats:
        """(U, P): arm minus other of each unit, missing where no label of it has a value in both."""
        return self._by_unit(self.values_RA[:, self.columns(arms)] - self.values_RA[:, self.columns(against)])

    def dropped(self, arms: list[str], against: list[str]) -> NDArray[np.intp]:
        """(P,): cases × labels that either arm has a record of, and not both have a value of."""
        mine, theirs = self.columns(arms), self.columns(against)
        recorded = self.recorded_RA[:, mine] | self.recorded_RA[:, theirs]
        undefined = np.isnan(self.values_RA[:, mine] - self.values_RA[:, theirs])
        return (recorded & undefined).sum(0)

    def _by_unit(self, values_RP: Floats) -> Floats:
        values_CP = _group_means(values_RP, self.case_R)
        unit_C = self.unit_R[np.unique(self.case_R, return_index=True)[1]]
        return np.round(_group_means(values_CP, unit_C), DECIMALS)


def task_scores(frame: pd.DataFrame, trials: pd.DataFrame, metric: str) -> Iterator[TaskScores]:
    """One metric of each task, in the order of the trials.

    frame, trials: from `results.summary.long_table` and `trial_table`. ValueError for an unknown metric.
    """
    check_metric(metric)
    order = summary.arms(trials)
    task, tasks = pd.factorize(frame["task"])
    numbers = _seeds_averaged(frame, trials, task, _arm_numbers(frame, trials, order), metric)
    found = {tasks[number]: rows for number, rows in numbers.groupby("task", sort=False)}
    for name, modality in trials.drop_duplicates("task")[["task", "modality"]].itertuples(index=False):
        yield _task(name, modality, order, found.get(name, numbers.iloc[:0]))


def named_arms(trials: pd.DataFrame) -> pd.DataFrame:
    """A row an arm, in reading order: arm, backbone, control, layer, fraction."""
    rows = trials.drop_duplicates("arm").set_index("arm", drop=False)
    return rows.loc[summary.arms(trials), ["arm", "backbone", "control", "layer", "fraction"]].reset_index(drop=True)


def questions(trials: pd.DataFrame) -> pd.DataFrame:
    """A row an arm × question that can be asked of these trials: arm, backbone, control, question, against.

    against is the name of the arm to compare with: of the same fraction of the data and the same settings, of the same
    backbone where it is not the baseline, and of the same layer where controls have one.
    """
    arms = summary.described(trials)
    against = {control: summary.controls_among(arms, control) for control in set(QUESTIONS.values())}
    rows = []
    for name, arm in arms.items():
        for question, control in QUESTIONS.items():
            if arm.control == "none" or (arm.control not in SUBJECTS and question != "baseline"):
                continue
            if name in against[control]:
                rows.append((name, arm.backbone, arm.control, question, against[control][name]))
    return pd.DataFrame(rows, columns=["arm", "backbone", "control", "question", "against"], dtype="str")


def by_seed(frame: pd.DataFrame, trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row a task × arm × seed × case where the metric is defined: task, arm, seed, case, and it, labels averaged."""
    check_metric(metric)
    named = frame.assign(arm=frame["digest"].map(trials.set_index("digest")["arm"]))
    scores = named.groupby(["task", "arm", "seed", "case"], sort=False, as_index=False)[metric].mean()
    return scores.dropna(subset=[metric])


def direction(metric: str) -> int:
    """1 where more of a metric is better, −1 where less is. ValueError for an unknown metric."""
    check_metric(metric)
    return 1 if metrics.METRICS[metric].higher_is_better else -1


def check_metric(metric: str) -> None:
    """ValueError, with the nearest name, unless the metric is one that tables show."""
    if metric not in summary.METRICS:
        near = get_close_matches(metric, summary.METRICS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"unknown metric {metric!r}{hint} known: {', '.join(summary.METRICS)}")


def _arm_numbers(frame: pd.DataFrame, trials: pd.DataFrame, order: list[str]) -> NDArray[np.intp]:
    """The place in the order of each row's arm; ValueError where the trials do not have it."""
    number, digests = pd.factorize(frame["digest"])
    arms = pd.Series(digests).map(trials.set_index("digest")["arm"])
    if arms.isna().any():
        row = frame.iloc[int(np.argmax(number == int(arms.isna().to_numpy().argmax())))]
        raise ValueError(f"scores of backbone {row.backbone} ({row.control}), and no such trial: not of one run")
    return pd.Index(order).get_indexer(arms)[number]


def _seeds_averaged(
    frame: pd.DataFrame, trials: pd.DataFrame, task: NDArray[np.intp], arm: NDArray[np.intp], metric: str
) -> pd.DataFrame:
    """A row a task × arm × case × label, all as numbers: these, patient, and the value, missing where undefined.

    `summary.case_scores` in numbers, which is several times as fast for one metric, and with patients.
    """
    rows = pd.DataFrame({"task": task, "arm": arm})
    for name in ("case", "label", "patient"):
        rows[name] = pd.factorize(frame[name], sort=True)[0]
    once = _joined(rows, "task", "arm", "case", "label")
    seeds = rows.assign(once=once, seed=pd.factorize(frame["seed"])[0], fold=pd.factorize(frame["fold"])[0])
    if pd.Index(_joined(seeds, "once", "seed", "fold")).has_duplicates:
        summary.case_scores(frame, trials)  # says which trials differ in nothing that tables show
        raise AssertionError("a score is there twice")
    number = pd.factorize(once)[0]
    first = np.flatnonzero(~pd.Series(once).duplicated())
    values = frame[metric].to_numpy()
    defined = ~np.isnan(values)
    counts = np.bincount(number[defined], minlength=len(first))
    sums = np.bincount(number[defined], values[defined], minlength=len(first))
    means = np.divide(sums, counts, out=np.full(len(first), np.nan), where=counts > 0)
    return rows.iloc[first].assign(value=means)


def _joined(rows: pd.DataFrame, *names: str) -> NDArray[np.int64]:
    """One number for each combination of numbers."""
    joined = np.zeros(len(rows), dtype=np.int64)
    for name in names:
        values = rows[name].to_numpy()
        joined = joined * (values.max(initial=0) + 1) + values
    return joined


def _task(task: str, modality: str, order: list[str], rows: pd.DataFrame) -> TaskScores:
    """rows: those of the task, as `_seeds_averaged` gives them."""
    case, label, arm, patient = (rows[name].to_numpy() for name in ("case", "label", "arm", "patient"))
    present, column = np.unique(arm, return_inverse=True)
    row_keys, first, row = np.unique(case * (label.max(initial=0) + 1) + label, return_index=True, return_inverse=True)
    values = np.full((len(row_keys), len(present)), np.nan)
    recorded = np.zeros(values.shape, dtype=bool)
    values[row, column], recorded[row, column] = rows["value"].to_numpy(), True
    case_R = np.unique(case[first], return_inverse=True)[1]
    unit_R = np.unique(patient[first], return_inverse=True)[1]
    shared = unit_R.max(initial=0) < case_R.max(initial=0)
    arms = [order[place] for place in present]
    return TaskScores(
        task, modality, "patient" if shared else "case", arms, values, recorded, case_R, unit_R if shared else case_R
    )


def _group_means(values_RP: Floats, group_R: NDArray[np.intp]) -> Floats:
    """(groups, P): means within each group of rows, what is missing left out; missing where nothing is left."""
    if not len(values_RP):
        return values_RP
    order = np.argsort(group_R, kind="stable")
    firsts = np.flatnonzero(np.diff(group_R[order], prepend=-1))
    defined = ~np.isnan(values_RP[order])
    sums = np.add.reduceat(np.where(defined, values_RP[order], 0.0), firsts, axis=0)
    counts = np.add.reduceat(defined.astype(np.float64), firsts, axis=0)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
