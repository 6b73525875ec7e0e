"""The inner split: a fold's training cases split again by patient. What the fold holds out is never opened.

One thing is read of all files, when a task is opened: the label values of a CSV that names no classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.data.cases import TaskFolder
from bench.data.facts import case_facts
from bench.data.splits import Split, make_split
from bench.study import StudyError


def training_side(fold: int, fraction: float) -> Callable[[TaskFolder], TaskFolder]:
    """What makes of a task the task of one fold's training cases alone.

    StudyError if they are of fewer than two patients, with the number that is needed. No image is opened.
    """

    def narrow(folder: TaskFolder) -> TaskFolder:
        outer = make_split(folder.cases, fold, fraction=fraction)
        kept = tuple(case for case in folder.cases if case.id in outer.train)
        patients = len({case.patient for case in kept})
        if patients < 2:
            all_patients = len({case.patient for case in folder.cases})
            more = "a larger --fraction" if fraction < 1 and all_patients > 2 else "a task of 3 patients or more"
            raise StudyError(
                f"{folder.spec.name}: fold {fold} trains on {patients} patient(s) of {all_patients}; a search splits "
                f"them again and needs 2 or more: give {more}"
            )
        return replace(folder, cases=kept)

    return narrow


def inner_split(folder: TaskFolder) -> Split:
    """The inner training and validation cases of a narrowed task: the first of its own folds, made as all folds are.

    A fifth of the patients validate, one at least. StudyError if none of them has any foreground: there is no Dice.
    """
    split = make_split(folder.cases, 0)
    facts = {case.id: case_facts(case) for case in folder.cases if case.id in split.held_out}
    if not any(value > 0 and count for fact in facts.values() for value, count in fact.counts.items()):
        raise StudyError(
            f"{folder.spec.name}: no inner validation case ({', '.join(split.held_out)}) has any foreground to be "
            "scored by; choose another --folds"
        )
    return split
