"""Check a task folder before anything is trained on it: every problem at once, and the digest of the data."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.cases import Case, TaskFolder, case_id
from bench.data.channels import AFFINE_TOLERANCE, affine_gap, read_channels, voxel_digests
from bench.data.nifti import DataError, Nifti, read_nifti, spacing_of
from bench.data.tasks import TaskSpec
from results.record import digest_of

#: Part of the address of stored facts: raise it when CaseFacts or what is measured changes.
FACTS_VERSION = 2


@dataclass(frozen=True)
class CaseFacts:
    """What one reading of a case's files tells; nothing here depends on dataset.json.

    shape (X, Y, Z), affine (4, 4) and spacing in mm are the image's, on the native grid. counts maps each label value
    to its number of voxels. errors are of files that could not be read; the other fields are empty then.
    voxel_digests: of each channel's values alone (`bench.data.channels.voxel_digests`).
    """

    errors: tuple[str, ...] = ()
    image_digest: str = ""
    label_digest: str = ""
    channels: int = 0
    shape: tuple[int, ...] = ()
    label_shape: tuple[int, ...] = ()
    affine: tuple[tuple[float, ...], ...] = ()
    spacing: tuple[float, ...] = ()
    affine_gap: float = 0.0
    nonfinite: int = 0
    fractional: float | None = None
    counts: dict[int, int] = field(default_factory=dict)
    voxel_digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskCheck:
    """problems: one line each, none if the task can be used. digest: SHA-256 over all cases, in the order of their ids.

    shapes (X, Y, Z) and spacings (mm) by case id, and voxels, their sum, are of the readable cases.
    """

    problems: tuple[str, ...]
    digest: str
    shapes: dict[str, tuple[int, ...]]
    spacings: dict[str, tuple[float, ...]]
    voxels: int


def check_task(folder: TaskFolder) -> TaskCheck:
    """Read every case once (or recall what was read, if the files have not changed) and report every problem."""
    facts = read_facts(folder.cases)
    problems = [*_folder_problems(folder)]
    for case, fact in zip(folder.cases, facts, strict=True):
        problems += _case_problems(case, fact, folder.spec, folder.source.name)
    readable = {case.id: fact for case, fact in zip(folder.cases, facts, strict=True) if not fact.errors}
    return TaskCheck(
        problems=tuple(problems),
        digest=_digest(folder.cases, facts),
        shapes={name: fact.shape for name, fact in readable.items()},
        spacings={name: fact.spacing for name, fact in readable.items()},
        voxels=sum(int(np.prod(fact.shape)) for fact in readable.values()),
    )


def read_facts(cases: Sequence[Case]) -> list[CaseFacts]:
    """The facts of every case, several at a time."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # unzipping and hashing release the lock
        return list(pool.map(case_facts, cases))


def content_digest(cases: Iterable[Case]) -> str:
    """SHA-256 over ids, patients and uncompressed file contents, in the order of the ids."""
    cases = list(cases)
    return _digest(cases, [case_facts(case) for case in cases])


def _digest(cases: Iterable[Case], facts: Iterable[CaseFacts]) -> str:
    pairs = zip(cases, facts, strict=True)
    lines = sorted(f"{case.id}\t{case.patient}\t{fact.image_digest}\t{fact.label_digest}\n" for case, fact in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def case_facts(case: Case) -> CaseFacts:
    """The facts of a case, from the cache if path, size and time of its files are those of the last reading."""
    facts = _file_facts(case)
    return _merged(facts, case.merged) if case.merged and not facts.errors else facts


def _merged(facts: CaseFacts, classes: int) -> CaseFacts:
    """The facts of a label whose values 1 to classes are one; a value beyond them stays, to be complained of."""
    counts: Counter[int] = Counter()
    for value, number in facts.counts.items():
        counts[1 if 1 <= value <= classes else value] += number
    return replace(facts, label_digest=digest_of([facts.label_digest, "merged"], 64), counts=dict(counts))


def _file_facts(case: Case) -> CaseFacts:
    try:
        files = (*case.images, case.label)
        stamps = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    except (OSError, RuntimeError):  # missing, or a loop of links: measuring it says which
        return _measure(case)
    target = cache_dir() / "facts" / f"{digest_of([FACTS_VERSION, stamps], 32)}.json"
    if target.is_file():
        return _from_json(json.loads(target.read_text()))
    facts = _measure(case)
    if not facts.errors:
        write_once(target, lambda path: _write(path, asdict(facts)))
    return facts


def _write(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body))


def _from_json(body: dict[str, Any]) -> CaseFacts:
    lists = {key: tuple(value) for key, value in body.items() if isinstance(value, list)}
    affine = tuple(tuple(row) for row in body["affine"])
    counts = {int(value): number for value, number in body["counts"].items()}
    return CaseFacts(**(body | lists | {"affine": affine, "counts": counts}))


def _measure(case: Case) -> CaseFacts:
    files: list[Nifti] = []
    errors = []
    for read in (lambda: read_channels(case.images), lambda: read_nifti(case.label)):
        try:
            files.append(read())
        except DataError as error:
            errors += str(error).splitlines()
    if errors:
        return CaseFacts(errors=tuple(errors))
    image, label = files
    fractional, counts = _label_values(label.array)
    return CaseFacts(
        image_digest=image.digest,
        label_digest=label.digest,
        channels=image.array.shape[3] if image.array.ndim == 4 else 1,
        shape=image.array.shape[:3] if image.array.ndim <= 4 else image.array.shape,
        label_shape=label.array.shape,
        affine=tuple(tuple(float(x) for x in row) for row in image.affine),
        spacing=spacing_of(image.affine),
        affine_gap=_affine_gap(image, label),
        nonfinite=int(image.array.size - np.count_nonzero(np.isfinite(image.array))),
        fractional=fractional,
        counts=counts,
        voxel_digests=voxel_digests(image.array),
    )


def _label_values(array: np.ndarray) -> tuple[float | None, dict[int, int]]:
    """(a value that is no integer, or None; voxels by integer value)."""
    if array.dtype == np.uint8:
        numbers = np.bincount(array.ravel(), minlength=256)
        return None, {int(v): int(numbers[v]) for v in np.flatnonzero(numbers)}
    values, numbers = np.unique(array, return_counts=True)
    whole = np.isfinite(values) & (values == np.round(values))
    odd = [float(np.nan_to_num(v)) for v in values[~whole]]
    return (odd[0] if odd else None), {int(v): int(n) for v, n in zip(values[whole], numbers[whole], strict=True)}


def _affine_gap(image: Nifti, label: Nifti) -> float:
    if min(image.array.ndim, label.array.ndim) < 3:
        return 0.0  # no volume, which is another complaint
    return affine_gap(image.array.shape, image.affine, label.affine)


def _folder_problems(folder: TaskFolder) -> Iterable[str]:
    where = folder.source
    yield from folder.problems
    for name, count in Counter(case.id for case in folder.cases).items():
        if count > 1:
            yield f"{where}: case id {name!r} is listed {count} times; every case needs an id of its own"
    patients = {case.patient for case in folder.cases}
    if len(patients) < 2:
        yield f"{where}: {len(folder.cases)} case(s) of {len(patients)} patient(s); a split needs two patients or more"
    if folder.layout == "MSD":
        yield from _lonely(folder, "imagesTr", "labelsTr", "image without a label")
        yield from _lonely(folder, "labelsTr", "imagesTr", "label without an image")


def _lonely(folder: TaskFolder, here: str, there: str, what: str) -> Iterable[str]:
    """Files of one folder that have no partner in the other one and that dataset.json does not list."""
    listed = {path for case in folder.cases for path in (*case.images, case.label)}
    partners = {case_id(path) for path in _images(folder.path / there)}
    for path in _images(folder.path / here):
        if path not in listed and case_id(path) not in partners:
            yield f"{path}: {what}; add {folder.path / there / path.name} or remove the file"


def _images(folder: Path) -> list[Path]:
    """Hidden files are left out: the archives of MSD hold `._*` leftovers of another system."""
    return sorted(path for path in folder.glob("*.nii*") if not path.name.startswith("."))


def _case_problems(case: Case, fact: CaseFacts, spec: TaskSpec, source: str) -> Iterable[str]:
    if fact.errors:
        yield from fact.errors
        return
    if len(fact.shape) != 3 or 0 in fact.shape:
        yield f"{case.image}: shape {fact.shape} is no volume; give an image of three axes, or four with channels last"
    elif fact.label_shape != fact.shape:
        yield f"{case.label}: shape {fact.label_shape} differs from its image's {fact.shape}; draw it on the same grid"
    if fact.channels != len(spec.channels):
        named = ", ".join(spec.channels)
        yield f"{case.image}: {fact.channels} channel(s), but {source} declares {len(spec.channels)} ({named})"
    if abs(np.linalg.det(np.array(fact.affine)[:3, :3])) < 1e-9:
        yield f"{case.image}: affine has no volume (spacing {fact.spacing} mm); every voxel size must be above 0"
    elif fact.affine_gap > AFFINE_TOLERANCE:
        yield f"{case.label}: affine lies {fact.affine_gap:.1f} voxels off its image's; save it with the image's affine"
    if fact.nonfinite:
        yield f"{case.image}: {fact.nonfinite} voxel(s) are NaN or infinite; replace them with a number"
    if fact.fractional is not None:
        yield f"{case.label}: label value {fact.fractional:g} is not an integer; save labels without interpolation"
    if extra := sorted(set(fact.counts) - set(range(len(spec.labels) + 1))):
        found = ", ".join(map(str, extra[:5]))
        known = f"{source}, which declares 0 to {case.merged or len(spec.labels)}"
        yield f"{case.label}: label value(s) {found} are not in {known}; correct the label or declare the class there"
