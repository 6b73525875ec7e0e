"""Splits: properties over any number of cases and patients, and nnU-Net's own folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.folder import Case
from bench.data.splits import make_split, make_splits

#: What scikit-learn 1.9.1 answers for KFold(5, shuffle=True, random_state=12345) over twelve items.
FOLDS_OF_TWELVE = [[0, 3, 8], [7, 10, 11], [6, 9], [1, 4], [2, 5]]


def cases_of(patients: list[int]) -> list[Case]:
    return [Case(f"c{n:03d}", (Path("i"),), Path("l"), f"p{patient:02d}") for n, patient in enumerate(patients)]


groups = st.lists(st.integers(0, 12), min_size=2, max_size=40).filter(lambda patients: len(set(patients)) > 1)


@settings(max_examples=60, deadline=None)
@given(groups, st.integers(0, 1000))
def test_folds_cover_each_case_once_and_split_no_patient(patients: list[int], seed: int) -> None:
    cases = cases_of(patients)
    patient = {case.id: case.patient for case in cases}
    held_out: list[str] = []
    folds = min(5, len(set(patients)))
    for fold in range(folds):
        split = make_split(cases, fold, seed=seed)
        assert split.folds == folds
        assert sorted(split.train + split.held_out) == sorted(patient)
        assert not {patient[c] for c in split.train} & {patient[c] for c in split.held_out}
        assert split.train
        assert split.held_out
        assert make_split(cases[::-1], fold, seed=seed) == split
        held_out += split.held_out
    assert sorted(held_out) == sorted(patient)


@settings(max_examples=40, deadline=None)
@given(groups, st.floats(0.01, 1), st.floats(0.01, 1))
def test_fractions_are_nested(patients: list[int], a: float, b: float) -> None:
    cases = cases_of(patients)
    small, large = (make_split(cases, 0, fraction=f) for f in sorted((a, b)))
    assert set(small.train) <= set(large.train)
    assert small.train
    assert small.held_out == large.held_out
    assert make_split(cases, 0, fraction=1.0) == make_split(cases, 0)


def test_a_tenth_of_ten_is_one() -> None:
    assert len(make_split(cases_of(list(range(12))), 0, folds=6, fraction=0.1).train) == 1


def test_folds_of_scikit_learn() -> None:
    cases = cases_of(list(range(12)))
    for fold, held_out in enumerate(FOLDS_OF_TWELVE):
        assert make_split(cases, fold).held_out == tuple(f"c{i:03d}" for i in held_out)


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60))
def test_folds_are_scikit_learns_for_any_number_of_cases(number: int) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    folds = selection.KFold(5, shuffle=True, random_state=12345).split(np.arange(number))
    cases = cases_of(list(range(number)))
    for fold, (train, held_out) in enumerate(folds):
        split = make_split(cases, fold)
        assert split.train == tuple(f"c{i:03d}" for i in train)
        assert split.held_out == tuple(f"c{i:03d}" for i in held_out)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60))
def test_folds_are_those_of_the_algorithm_as_scikit_learn_documents_it(number: int) -> None:
    """KFold: shuffle the indices by the seed; the first n % k folds have n // k + 1 of them, the others n // k."""
    indices = list(range(number))
    np.random.RandomState(12345).shuffle(indices)
    cases, folds, start = cases_of(list(range(number))), min(5, number), 0
    for fold in range(folds):
        size = number // folds + (fold < number % folds)
        assert make_split(cases, fold).held_out == tuple(f"c{i:03d}" for i in sorted(indices[start : start + size]))
        start += size


def test_all_folds_are_those_that_the_task_has() -> None:
    for patients, folds in ((2, 2), (4, 4), (5, 5), (30, 5)):
        parts = list(make_splits(cases_of(list(range(patients))), "all", (0.1, 1.0)))
        assert [(part.fold, part.fraction) for part in parts] == [(f, s) for f in range(folds) for s in (0.1, 1.0)]
        held_out = [case for part in parts if part.fraction == 1 for case in part.split.held_out]
        assert sorted(held_out) == [f"c{n:03d}" for n in range(patients)]


def test_the_smallest_fraction_keeps_a_patient() -> None:
    assert len(make_split(cases_of(list(range(30))), 0, fraction=1e-12).train) == 1


def test_digest_tells_folds_apart() -> None:
    cases = cases_of(list(range(10)))
    assert len({make_split(cases, fold).digest for fold in range(5)}) == 5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"fold": 5}, "--folds 5: no such fold; .* 0 to 4"),
        ({"fold": -1}, "--folds -1"),
        ({"fold": 0, "folds": 11}, "11 fold"),
        ({"fold": 0, "fraction": 0.0}, "--fraction 0.0"),
        ({"fold": 0, "fraction": 1.5}, "--fraction 1.5"),
    ],
)
def test_what_does_not_fit(arguments: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_split(cases_of(list(range(10))), **arguments)  # type: ignore[arg-type]


def test_one_patient_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="1 patient"):
        make_split(cases_of([3, 3, 3]), 0)
