"""Check a task folder before anything is trained on it: every problem at once, and the digest of the data."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.cases import Case, TaskFolder, case_id
from bench.data.facts import case_facts, content_digest, digest_of_facts, files_of, read_facts
from bench.data.measure import CaseFacts
from bench.data.same import repeated

__all__ = ["CaseFacts", "CheckedCase", "TaskCheck", "case_facts", "check_task", "content_digest", "read_facts"]

#: Called with the number of cases that have been looked at and that of all.
OnCase = Callable[[int, int], None]
#: So many names stand in a line; the rest is counted.
_NAMED = 5


@dataclass(frozen=True)
class CheckedCase:
    """A case, what its files hold, and what is wrong with it, one line each."""

    case: Case
    facts: CaseFacts
    problems: tuple[str, ...]


@dataclass(frozen=True)
class TaskCheck:
    """problems: one line each, none if the task can be used; notices: what a user should know and need not mend.

    digest: SHA-256 over all cases, in the order of their ids. shapes (X, Y, Z) and spacings (mm) by case id, and
    voxels, their sum, are of the readable cases.
    """

    problems: tuple[str, ...]
    digest: str
    shapes: dict[str, tuple[int, ...]]
    spacings: dict[str, tuple[float, ...]]
    voxels: int
    notices: tuple[str, ...] = ()
    cases: tuple[CheckedCase, ...] = ()


def check_task(folder: TaskFolder, on_case: OnCase | None = None) -> TaskCheck:
    """Read every case once (or recall what was read, if the files have not changed) and report every problem."""
    facts = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # unzipping and hashing release the lock
        for fact in pool.map(case_facts, folder.cases):
            facts.append(fact)
            if on_case:
                on_case(len(facts), len(folder.cases))
    pairs = list(zip(folder.cases, facts, strict=True))
    checked = [CheckedCase(case, fact, tuple(_case_problems(case, fact, folder))) for case, fact in pairs]
    readable = [(case, fact) for case, fact in pairs if not fact.errors]
    problems = [*_folder_problems(folder), *(line for entry in checked for line in entry.problems)]
    return TaskCheck(
        problems=(*problems, *_no_foreground_at_all(folder, readable)),
        digest=digest_of_facts(folder.cases, facts),
        shapes={case.id: fact.shape for case, fact in readable},
        spacings={case.id: fact.spacing for case, fact in readable},
        voxels=sum(int(np.prod(fact.shape)) for _, fact in readable),
        notices=(*_task_notices(folder, readable), *_grouped(readable)),
        cases=tuple(checked),
    )


def _folder_problems(folder: TaskFolder) -> Iterable[str]:
    where = folder.source
    yield from folder.problems
    for name, count in Counter(case.id for case in folder.cases).items():
        if count > 1:
            yield f"{where}: case id {name!r} is listed {count} times; every case needs an id of its own"
    patients = {case.patient for case in folder.cases}
    if len(patients) < 2:
        yield f"{where}: {len(folder.cases)} case(s) of {len(patients)} patient(s); a split needs two patients or more"
    if folder.layout == "MSD":  # the other layouts find their cases by looking
        yield from _lonely(folder, "imagesTr", "labelsTr", "image without a label")
        yield from _lonely(folder, "labelsTr", "imagesTr", "label without an image")


def _lonely(folder: TaskFolder, here: str, there: str, what: str) -> Iterable[str]:
    """Files of one folder that have no partner in the other one and that dataset.json does not list."""
    listed = {path for case in folder.cases for path in files_of(case)}
    ids = {"imagesTr": _names, "labelsTr": lambda path: {case_id(path)}}
    partners = {name for path in _images(folder.path / there) for name in ids[there](path)}
    for path in _images(folder.path / here):
        if path not in listed and not partners & ids[here](path):
            yield f"{path}: {what}; add {folder.path / there / path.name} or remove the file"


def _names(image: Path) -> set[str]:
    """The ids of the case that an image may be of: in nnU-Net's first layout its name ends in its channel's number."""
    return {case_id(image), re.sub(r"_\d{4}$", "", case_id(image))}


def _images(folder: Path) -> list[Path]:
    """Hidden files are left out: the archives of MSD hold `._*` leftovers of another system."""
    return sorted(path for path in folder.glob("*.nii*") if not path.name.startswith("."))


def _case_problems(case: Case, fact: CaseFacts, folder: TaskFolder) -> Iterable[str]:
    if fact.errors:
        yield from fact.errors
        return
    spec, source, files = folder.spec, folder.source.name, files_of(case)
    if fact.channels != len(spec.channels):
        named = ", ".join(spec.channels)
        yield f"{case.image}: {fact.channels} channel(s), but {source} declares {len(spec.channels)} ({named})"
    for number, text in fact.faults:
        yield f"{files[number]}: {text}"
    if extra := sorted(set(fact.counts) - set(range(len(spec.labels) + 1))):
        known = f"{source}, which declares 0 to {case.merged or len(spec.labels)}"
        yield f"{case.label}: label value(s) {_some(extra)} are not in {known}; correct the label or declare the class"


def _no_foreground_at_all(folder: TaskFolder, readable: list[tuple[Case, CaseFacts]]) -> Iterable[str]:
    if readable and not any(_has_foreground(fact) for _, fact in readable):
        yield (
            f"{readable[0][0].label.parent}: no foreground in any of {len(readable)} label(s): every voxel is 0; "
            "check that the labels belong to these images and were not emptied by a conversion"
        )


def _task_notices(folder: TaskFolder, readable: list[tuple[Case, CaseFacts]]) -> Iterable[str]:
    where, total = folder.source, len(readable)
    empty = [case.id for case, fact in readable if not _has_foreground(fact)]
    if 0 < len(empty) < total:
        yield f"{where}: {len(empty)} of {total} cases have no foreground ({_some(empty)}); they count as empty masks"
    if len(empty) < total:
        for value, name in enumerate(folder.spec.labels, start=1):
            if not any(value in fact.counts for _, fact in readable):
                yield f"{where}: label {value} ({name}) is in none of {total} cases; its scores will be undefined"
    for group in repeated(*zip(*readable, strict=True)) if readable else ():
        others = _some(channel.name for channel in group[1:])
        yield f"{where}: {group[0].name} and {others} are the same image; no split may part them"


def _has_foreground(fact: CaseFacts) -> bool:
    return any(value > 0 for value in fact.counts)


def _grouped(readable: list[tuple[Case, CaseFacts]]) -> Iterable[str]:
    """Notices of the files: one line for all that differ in numbers only."""
    groups: dict[str, list[str]] = {}
    for case, fact in readable:
        for number, text in fact.notices:
            groups.setdefault(re.sub(r"[\d.]+", "#", text), []).append(f"{files_of(case)[number]}: {text}")
    for first, *more in groups.values():
        yield f"{first} (and {len(more)} more files)" if more else first


def _some(names: Iterable[object]) -> str:
    listed = list(map(str, names))
    return ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")
