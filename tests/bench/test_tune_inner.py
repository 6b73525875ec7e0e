"""The inner split: whatever the patients, nothing that a fold holds out is in it, and no patient is on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.data.cases import Case, TaskFolder
from bench.data.splits import make_split
from bench.data.tasks import TaskSpec
from bench.study import StudyError
from bench.tuning.inner import training_side


def folder_of(patients: list[int]) -> TaskFolder:
    """A task whose case number n is of patient patients[n]; its files are nowhere."""
    nowhere = Path("/nowhere")
    cases = [Case(f"case_{n:02d}", (nowhere,), nowhere, f"p{patient}") for n, patient in enumerate(patients)]
    return TaskFolder(TaskSpec("Task99_Tiny", "CT", ("CT",), ("blob",)), nowhere, tuple(cases), nowhere)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30), st.integers(0, 4), st.sampled_from([0.3, 0.5, 1.0]))
def test_the_inner_split_lies_within_the_training_side_and_parts_no_patient(patients, fold, fraction):
    folder = folder_of(patients)
    assume(fold < min(5, len(set(patients))) and len(set(patients)) > 1)
    outer = make_split(folder.cases, fold, fraction=fraction)
    of = {case.id: case.patient for case in folder.cases}
    if len({of[case] for case in outer.train}) < 2:
        with pytest.raises(StudyError, match=r"needs 2 or more: give a "):
            training_side(fold, fraction)(folder)
        return
    narrow = training_side(fold, fraction)(folder)
    inner = make_split(narrow.cases, 0)
    assert set(inner.train) | set(inner.held_out) == set(outer.train) and inner.train and inner.held_out
    assert not {of[case] for case in inner.train} & {of[case] for case in inner.held_out}
    assert not {of[case] for case in (*inner.train, *inner.held_out)} & {of[case] for case in outer.held_out}
