"""One pair of NIfTI files to its scores, and many pairs in several processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil

from bench.data.nifti import DataError, read_nifti, spacing_of
from bench.scoring.case import score_case
from bench.scoring.counts import Labels
from results.record import CaseScore

#: Two grids are the same if no corner of the image lies further apart than this share of a voxel's shortest side.
_APART = 0.1
#: Bytes a voxel that scoring a pair may need: two files as they are read, two label volumes, masks and a transform.
_BYTES_A_VOXEL = 40


@dataclass(frozen=True)
class Job:
    """A case to score. values: label value → name, values of one name being one label; patient may be the case."""

    case: str
    patient: str
    prediction: Path
    reference: Path
    values: tuple[tuple[int, str], ...]
    tolerance: float


@dataclass(frozen=True)
class Scored:
    """A case's scores, and the SHA-256 of its two files, uncompressed."""

    scores: tuple[CaseScore, ...]
    prediction: str
    reference: str


def score_files(job: Job) -> Scored:
    """Score one case. DataError names both files where their grids differ, and the file whose values have no name."""
    theirs, affine, reference = _labels(job.reference)
    ours, other, prediction = _labels(job.prediction)
    if ours.shape != theirs.shape:
        raise DataError(
            f"{job.prediction} has the shape {ours.shape} and {job.reference} {theirs.shape}; "
            "a prediction must be on the grid of its reference"
        )
    spacing = spacing_of(affine)
    if (apart := _furthest_corner(affine, other, theirs.shape)) > _APART * min(spacing):
        raise DataError(
            f"{job.prediction} and {job.reference} have different affines: a corner of the image is {apart:.3g} mm "
            "from its place; resample the prediction to the grid of its reference"
        )
    values = dict(job.values)
    labels = tuple(dict.fromkeys(values.values()))
    ours, theirs = (_numbered(*one, values, labels) for one in ((ours, job.prediction), (theirs, job.reference)))
    scores = score_case(ours, theirs, spacing, labels, job.case, job.patient, job.tolerance)
    return Scored(tuple(scores), prediction, reference)


def score_all(jobs: Mapping[str, Job], workers: int, done: Callable[[str], None]) -> dict[str, Scored]:
    """Score the cases in this many processes; done is called with the id of each. DataError tells every problem."""
    found: dict[str, Scored] = {}
    problems: dict[str, str] = {}
    for case, outcome in _outcomes(jobs, workers):
        if isinstance(outcome, Scored):
            found[case] = outcome
        else:
            problems[case] = outcome
        done(case)
    if problems:
        raise DataError("\n".join(problems[case] for case in sorted(problems)))
    return {case: found[case] for case in jobs}


def digest(parts: Mapping[str, str]) -> str:
    """The SHA-256 of names and digests, whatever their order."""
    return hashlib.sha256("\n".join(f"{name} {parts[name]}" for name in sorted(parts)).encode()).hexdigest()


def fitting_workers(jobs: Mapping[str, Job]) -> int:
    """As many processes as there are cores, cases, and gigabytes for the largest reference."""
    voxels = max(int(np.prod(_shape(job.reference))) for job in jobs.values())
    fitting = int(0.8 * psutil.virtual_memory().available // (voxels * _BYTES_A_VOXEL + 2**28))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, len(jobs), fitting))


def _outcomes(jobs: Mapping[str, Job], workers: int) -> Iterator[tuple[str, Scored | str]]:
    """Each case with its scores or the text of its error, as they come."""
    if workers == 1:
        yield from ((case, _outcome(job)) for case, job in jobs.items())
        return
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        left = iter(jobs.items())
        running = {pool.submit(_outcome, job): case for case, job in islice(left, 2 * workers)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
                running |= {pool.submit(_outcome, job): case for case, job in islice(left, 1)}


def _outcome(job: Job) -> Scored | str:
    """An error as text: the other cases are looked at all the same, so that all that is wrong is told at once."""
    try:
        return score_files(job)
    except DataError as error:
        return str(error)


def _labels(path: Path) -> tuple[Labels, np.ndarray, str]:
    """The label volume (X, Y, Z) uint8 of a file, its affine and its digest."""
    array, affine, digest_, *_ = read_nifti(path)
    if array.ndim != 3:
        raise DataError(f"{path}: has the shape {array.shape}; a label volume has three axes")
    if min(spacing_of(affine)) <= 0:
        raise DataError(f"{path}: a voxel has no size along an axis; mend the file's affine")
    with np.errstate(invalid="ignore"):  # a value that is cast to another one is told below
        label = array.astype(np.uint8) if np.isfinite(array).all() else None
    if label is None or not np.array_equal(label, array):
        raise DataError(f"{path}: label values must be integers from 0 to 255")
    return label, affine, digest_


def _numbered(volume: Labels, path: Path, values: Mapping[int, str], labels: Sequence[str]) -> Labels:
    """Each value as the place of its name in labels, from 1; DataError where a voxel has one without a name."""
    places = np.zeros(256, np.uint8)
    places[list(values)] = [labels.index(name) + 1 for name in values.values()]
    present = np.flatnonzero(np.bincount(volume.reshape(-1, order="A"), minlength=256))
    if strange := [int(value) for value in present if value and not places[value]]:
        known = ", ".join(f"{value}={name}" for value, name in values.items())
        raise DataError(f"{path}: has the value {strange[0]}, which has no name; known: {known}; name it with --labels")
    return volume if all(places[value] == value for value in present) else places[volume]


def _shape(path: Path) -> tuple[int, ...]:
    """From the header alone; a file that cannot be read is told of when its turn comes."""
    try:
        image: Any = nib.load(path)
        return tuple(image.shape)
    except Exception:  # nibabel raises many kinds
        return (1,)


def _furthest_corner(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """In mm: how far the same corner of an image can be from itself by two affines."""
    corners = np.array([(*corner, 1) for corner in product(*((0, side - 1) for side in shape))], dtype=np.float64)
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())
