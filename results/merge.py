"""Several runs to one run folder. Standard library only."""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results import store
from results.arms import arm_key, shown
from results.record import Status, TrialResult, TrialSpec


def merge(runs: Iterable[Path], into: Path) -> None:
    """Bring the records of several runs together in one run folder, and what lies beside them as `<part>/<key>.*`.

    The same trial with the same content counts once. Of a failed and a complete record the complete one counts, of two
    failed ones the first. Raises RecordError, before anything is written, where the same trial has other content, where
    two trials differ in nothing but settings, data or weights (it names both files), and where `into` holds a record of
    none of the runs.
    """
    chosen: dict[str, tuple[Path, TrialResult]] = {}
    for run in map(Path, runs):
        for record in store.read(run):
            before = chosen.get(record.spec.digest)
            if before is None or _prefer(record, run, *before):
                chosen[record.spec.digest] = (run, record)
    _refuse_mixtures(chosen.values())
    for old in store.read(into):
        ours = chosen.get(old.spec.digest)
        if ours is None or _prefer(old, Path(into), *ours):
            raise store.RecordError(f"{store.record_path(into, old)} is in none of the runs; merge into another folder")
    for run, record in chosen.values():
        for path in _files(run, record.spec.key):
            _bring(path, Path(into) / path.relative_to(run))


def _prefer(record: TrialResult, run: Path, other_run: Path, other: TrialResult) -> bool:
    """Whether a record counts more than another of the same trial; RecordError where both are complete and disagree."""
    complete, other_complete = (one.status is Status.COMPLETE for one in (record, other))
    if not (complete and other_complete):
        return complete and not other_complete
    if not store.same_content(record, other):
        raise store.RecordError(
            f"{store.record_path(other_run, other)} and {store.record_path(run, record)} are complete records of the "
            "same trial and have other content; find out which one is right, and leave the other run out"
        )
    return False


def _refuse_mixtures(found: Iterable[tuple[Path, TrialResult]]) -> None:
    """Two trials that tables cannot tell apart would be averaged, or count as two of expected."""
    slots: dict[tuple[Any, ...], tuple[Path, TrialResult]] = {}
    for run, record in found:
        before_run, before = slots.setdefault(slot(record.spec), (run, record))
        if before is not record and (other := difference(before.spec, record.spec)):
            paths = f"{store.record_path(before_run, before)} and {store.record_path(run, record)}"
            raise store.RecordError(
                f"{paths} are {record.spec.title}, each with another {other}; such runs cannot be merged, only compared"
            )


def slot(spec: TrialSpec) -> tuple[Any, ...]:
    """What tables know a trial by, the settings of its arm aside: two trials of one run that agree in it differ in
    nothing else.
    """
    return (spec.task, *arm_key(spec)[:4], spec.seed, spec.fold)


def difference(one: TrialSpec, other: TrialSpec) -> str:
    """The first field or setting in which two specifications differ, with both values, or nothing: what makes two arms
    of them, which tables tell apart, is not counted.
    """
    ours, theirs = _flat(one), _flat(other)
    if ours.get("block.second_layer") != theirs.get("block.second_layer"):  # another layer's hash is another one
        ours, theirs = ({k: v for k, v in each.items() if k != "block.second_sha256"} for each in (ours, theirs))
    differ = (name for name in ours | theirs if ours.get(name) != theirs.get(name) and not shown(*_part(name)))
    return next((f"{name} ({ours.get(name)!r}, {theirs.get(name)!r})" for name in differ), "")


def _part(name: str) -> tuple[str, str]:
    part, _, setting = name.partition(".")
    return part, setting


def _flat(spec: TrialSpec) -> dict[str, Any]:
    """Every field that is in the digest, a setting an entry: `train.steps`."""
    body = asdict(spec) | {"weights": {"kind": spec.weights.kind, "sha256": spec.weights.sha256}}
    flat: dict[str, Any] = {}
    for name, value in body.items():
        flat |= {f"{name}.{part}": one for part, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _files(run: Path, key: str) -> Iterator[Path]:
    """A trial's record, and the files of the same key in the run's other folders; the record last."""
    for folder in sorted(run.iterdir(), key=lambda path: (path.name == "trials", path.name)):
        yield from sorted((folder / key).parent.glob(f"{glob.escape(Path(key).name)}.*"))


def _bring(source: Path, target: Path) -> None:
    """The same file by another name, or a copy where the file system has no such: a run's files are never changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # also where both names are of one file already: then nothing is replaced
