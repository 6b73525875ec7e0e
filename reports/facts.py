"""What a reader must know before the first number: what was run, on what, and what the numbers cannot say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from results.record import TrialResult

CROSS_VALIDATION = (
    "Every score is cross-validation: held-out cases of the training set, predicted by the final weights and scored at "
    "native spacing. No epoch was picked on them. The official test labels of the Medical Segmentation Decathlon are "
    "private, so these numbers are not its leaderboard's."
)
#: Below this many held-out cases the page says that they are few.
FEW = 20
_ORIGINS = {"images": "real images", "phantom": "phantom data"}


@dataclass(frozen=True)
class Facts:
    """banner is the warning that opens the page (empty for none); points are plain sentences, in reading order.

    notices maps a task to the warning that the task itself carries, such as how its labels were made.
    """

    title: str
    banner: str
    points: tuple[str, ...]
    notices: dict[str, str]
    tasks: int
    complete: int
    failed: int
    expected: int

    @property
    def warnings(self) -> dict[str, str]:
        """Notice → the tasks it belongs to, so that the first screen says each once."""
        tasks: dict[str, list[str]] = {}
        for task, notice in self.notices.items():
            tasks.setdefault(notice, []).append(task)
        everywhere = len(self.notices) == self.tasks > 3
        return {n: "All tasks" if everywhere and len(tasks) == 1 else ", ".join(names) for n, names in tasks.items()}


def gather(title: str, records: Sequence[TrialResult], trials: pd.DataFrame, frame: pd.DataFrame) -> Facts:
    """The facts of a run, from its records, its trial table and its long table (both of `results.summary`)."""
    counts = trials["status"].value_counts()
    points = (
        _what(records, trials),
        *_weights(trials),
        CROSS_VALIDATION,
        _held_out(frame),
        *_undefined(frame),
    )
    return Facts(
        title=title,
        banner=banner(records),
        points=tuple(point for point in points if point),
        notices={record.task.name: record.task.notice for record in records if record.task.notice},
        tasks=int(trials["task"].nunique()),
        complete=int(counts.get("complete", 0)),
        failed=int(counts.get("failed", 0) + counts.get("diverged", 0)),
        expected=len(trials),
    )


def banner(records: Sequence[TrialResult]) -> str:
    """`Phantom data, stand-in weights: these numbers say nothing about the backbones.`, of what applies."""
    phantom = any(record.task.origin == "phantom" for record in records)
    stand_in = any("stand-in" in (record.spec.control, record.spec.weights.kind) for record in records)
    what = ", ".join(text for text, holds in (("phantom data", phantom), ("stand-in weights", stand_in)) if holds)
    return f"{what[0].upper()}{what[1:]}: these numbers say nothing about the backbones." if what else ""


def _what(records: Sequence[TrialResult], trials: pd.DataFrame) -> str:
    arms = list(dict.fromkeys(trials["arm"]))
    origins = sorted({_ORIGINS.get(record.task.origin, record.task.origin) for record in records})
    tasks, seeds, folds = (sorted(trials[name].unique()) for name in ("task", "seed", "fold"))
    names = f" ({', '.join(tasks)})" if len(tasks) <= 3 else ""
    return (
        f"{_count(len(arms), 'arm')}: {_names(arms)}. "
        f"{_count(len(tasks), 'task')}{names} of {' and '.join(origins)}, "
        f"{_count(len(seeds), 'seed')} ({_list(seeds)}), {_count(len(folds), 'fold')} ({_list(folds)})."
    )


def _weights(trials: pd.DataFrame) -> list[str]:
    """What stands in the block's place, where it is not what was pre-trained."""
    texts = {
        "none": "{}: the baseline, which is the same segmenter without a block.",
        "random": "{}: frozen random weights in the real architecture; nothing in it is pre-trained.",
        "shuffled": "{}: the pre-trained numbers in another order; no structure of them is left.",
        "identity": "{}: the two mappers with nothing between them.",
        "mlp": "{}: an MLP with as many trainable parameters as the mappers; nothing in it is pre-trained.",
        "depth": "{}: encoder blocks with as many trainable parameters as the mappers; nothing is pre-trained.",
        "trainable": "{}: the pre-trained block, trained with the rest; it is not frozen.",
        "lora": "{}: the pre-trained block, frozen, with a LoRA that is trained.",
        "reference": "{}: another model, trained from scratch on the same crops and budget; it has no block.",
        "stand-in": "{}: a tiny random twin of the real architecture; nothing in it is pre-trained.",
    }
    found = trials.drop_duplicates("arm").groupby("control", sort=False)["arm"]
    return [texts[str(control)].format(_names(arms)) for control, arms in found if control in texts]


def _held_out(frame: pd.DataFrame) -> str:
    """How many held-out cases stand behind a task's score; said as a warning where they are few."""
    if frame.empty:
        return "No trial is complete: there are no scores."
    counts = frame.groupby("task")[["case", "patient"]].nunique()
    cases = counts["case"]
    least, most = int(cases.min()), int(cases.max())
    size = _count(least, "held-out case") if least == most else f"{least} to {most} held-out cases"
    warning = " These are few: read every difference with care." if least < FEW else ""
    grouped = [
        f"{task}: {_count(int(row.patient), 'patient')}" for task, row in counts.iterrows() if row.patient < row.case
    ]
    patients = (
        f" Held-out cases share patients ({'; '.join(grouped)}), so they are fewer than they look." if grouped else ""
    )
    return f"Each task is scored on {size}.{patients}{warning}"


def _undefined(frame: pd.DataFrame) -> list[str]:
    """How many values the means leave out."""
    empty = int(frame["dice"].isna().sum())
    silent = int(frame["precision"].isna().sum())
    return [
        f"Of {_count(len(frame), 'score')} (trial × case × class), {empty} have no Dice (class absent from both "
        f"masks) and {silent} no precision (nothing predicted); means leave them out."
    ] * bool(empty or silent)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _names(arms: Iterable[str]) -> str:
    """The arms in a row; names with a comma in them are kept apart."""
    names = list(arms)
    return ("; " if any(", " in name for name in names) else ", ").join(names)


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
