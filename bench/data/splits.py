"""Which cases are trained on and which are held out: seeded, by patient, as nnU-Net makes its five folds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from bench.data.cases import Case
from bench.data.nifti import DataError
from results.record import digest_of

#: nnU-Net's seed and number of folds, so that results over its five folds can be compared.
SEED, FOLDS = 12345, 5
#: Folds by number, or as many as the task has.
Folds = Sequence[int] | Literal["all"]


@dataclass(frozen=True)
class Split:
    """Case ids of one fold, sorted. No patient has cases on both sides."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    folds: int

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits over the ids of both sides."""
        return digest_of({"train": self.train, "held_out": self.held_out})


class Part(NamedTuple):
    """One fold of a task at one fraction of its training patients."""

    fold: int
    fraction: float
    split: Split


def make_splits(cases: Sequence[Case], folds: Folds, fractions: Sequence[float]) -> Iterator[Part]:
    """Fold by fold and fraction by fraction, what `make_split` gives; `all` is every fold that the task has."""
    numbers = range(min(FOLDS, len({case.patient for case in cases}))) if folds == "all" else folds
    for fold in numbers:
        for fraction in fractions:
            yield Part(fold, fraction, make_split(cases, fold, fraction=fraction))


def make_split(
    cases: Sequence[Case], fold: int, folds: int | None = None, seed: int = SEED, fraction: float = 1.0
) -> Split:
    """Fold `fold` of `folds` (min(5, patients) when left out) over the sorted patient ids.

    The folds are those of scikit-learn's `KFold(folds, shuffle=True, random_state=seed)`. fraction keeps the first
    ceil(fraction · n) of the shuffled training patients, one at least, so that a smaller part lies within every larger
    one; what is held out stays the same. DataError names the flag of a value that does not fit.
    """
    patients = sorted({case.patient for case in cases})
    folds = min(FOLDS, len(patients)) if folds is None else folds
    if not 2 <= folds <= len(patients):
        raise DataError(f"{folds} fold(s) of {len(patients)} patient(s): needs 2 folds or more, and a patient for each")
    if not 0 <= fold < folds:
        raise DataError(f"--folds {fold}: no such fold; with {len(patients)} patients there are 0 to {folds - 1}")
    if not 0 < fraction <= 1:
        raise DataError(f"--fraction {fraction}: must be above 0 and at most 1")
    order = np.arange(len(patients))
    np.random.RandomState(seed).shuffle(order)  # the legacy stream is frozen by NumPy: same folds for ever
    held_out = {patients[i] for i in np.array_split(order, folds)[fold]}
    trained = _first([patient for patient in patients if patient not in held_out], fraction, seed)
    return Split(_ids(cases, trained), _ids(cases, held_out), folds)


def _first(patients: list[str], fraction: float, seed: int) -> set[str]:
    order = np.random.RandomState(seed).permutation(len(patients))
    keep = max(1, math.ceil(fraction * len(patients) - 1e-9))  # 0.1 · 30 is a little more than 3
    return {patients[i] for i in order[:keep]}


def _ids(cases: Sequence[Case], patients: set[str]) -> tuple[str, ...]:
    return tuple(sorted(case.id for case in cases if case.patient in patients))
