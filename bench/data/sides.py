"""What may be wrong with the two sides of a task's splits, before anything is trained on one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.data.cases import Case, TaskFolder
from bench.data.facts import read_facts
from bench.data.measure import CaseFacts
from bench.data.nifti import DataError
from bench.data.same import Channel, repeated
from bench.data.splits import Folds, Part, make_splits


def look_at_sides(folder: TaskFolder, folds: Folds, fractions: Sequence[float]) -> tuple[list[str], list[str]]:
    """(problems, notices) of the splits that a study asks of a task, one line each.

    A problem is a fold or fraction that cannot be, one image on both sides, or a training side without foreground. A
    notice is of fractions that keep the same cases.
    """
    task, parts, problems = folder.spec.name, list[Part](), list[str]()
    each: list[Folds] = ["all"] if folds == "all" else [(fold,) for fold in folds]
    for asked in each:
        try:
            parts += make_splits(folder.cases, asked, fractions)
        except DataError as error:
            problems.append(str(error))
    facts = read_facts(folder.cases)
    problems += _same_images(folder.cases, facts, parts)
    problems += _without_foreground(folder.cases, facts, parts)
    notices = _same_training(parts)
    return [f"{task}: {text}" for text in problems], [f"{task}: {text}" for text in notices]


def _same_images(cases: Sequence[Case], facts: Sequence[CaseFacts], parts: Sequence[Part]) -> Iterator[str]:
    """One image on both sides; one that is twice on one side is `check_task`'s to tell."""
    for group in repeated(cases, facts):
        crossing = next(((part, *pair) for part in parts if (pair := _across(group, part))), None)
        if crossing:
            part, trained, held_out = crossing
            yield (
                f"{trained.name} and {held_out.name} are the same image, and fold {part.fold} trains on the first and "
                "holds out the second; remove one, or give both cases one patient"
            )


def _across(group: Sequence[Channel], part: Part) -> tuple[Channel, Channel] | None:
    """A channel that is trained on and an equal one that is held out, if there are such."""
    trained = [channel for channel in group if channel.case in part.split.train]
    held_out = [channel for channel in group if channel.case in part.split.held_out]
    return (trained[0], held_out[0]) if trained and held_out else None


def _without_foreground(cases: Sequence[Case], facts: Sequence[CaseFacts], parts: Sequence[Part]) -> Iterator[str]:
    pairs = zip(cases, facts, strict=True)
    filled = {case.id for case, fact in pairs if any(value > 0 and number for value, number in fact.counts.items())}
    for part in parts:
        if filled.isdisjoint(part.split.train):
            which = f"fold {part.fold}" + (f" at --fraction {part.fraction:g}" if part.fraction < 1 else "")
            yield f"no training case of {which} has any foreground; choose another fold or a larger fraction"


def _same_training(parts: Sequence[Part]) -> Iterator[str]:
    """Fractions so close, or of so few patients, that they keep the same cases."""
    same: dict[tuple[int, tuple[str, ...]], list[float]] = {}
    for part in parts:
        same.setdefault((part.fold, part.split.train), []).append(part.fraction)
    told: dict[str, list[str]] = {}
    for (fold, _), shares in same.items():
        if len(shares) > 1:
            told.setdefault(" and ".join(f"{share:g}" for share in shares), []).append(str(fold))
    for shares_text, folds in told.items():
        where = f"fold {', '.join(folds)}"
        yield f"--fraction {shares_text} keep the same training cases in {where}, so their results will be equal"
