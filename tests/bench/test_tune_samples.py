"""A sample of a search: how it ends, and that nothing which comes later takes that back."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tuning.samples import ENDED, Rung, Sample, State, read, write

RUNGS = st.lists(st.sampled_from([0.2, 0.4, 0.7]), unique=True).map(sorted)
ERROR = "Ray's account\nits process died: it was killed, or its machine is gone"


def told(shares: list[float], state: State | None = None) -> Sample:
    sample = Sample(1, {"lr": 1e-3})
    for step, share in enumerate(shares):
        sample = sample.told({"share": share}).told({"share": share, "rung": asdict(Rung(share, step, 0.5))})
    return sample.told({"share": 1.0, "state": state.value, "error": "no number"}) if state else sample


@given(RUNGS)
def test_a_sample_that_was_scored_at_its_very_end_is_complete_whatever_dies_then(shares):
    sample = told([*shares, 1.0])
    assert sample.state is State.COMPLETE
    assert sample.died(ERROR) == sample.ended() == sample


@given(RUNGS)
def test_a_sample_whose_process_dies_before_that_failed_and_one_that_is_stopped_did_not(shares):
    sample = told(shares)
    assert sample.state is State.RUNNING and sample.state not in ENDED
    assert sample.ended().state is State.STOPPED
    assert (sample.died(ERROR).state, sample.died(ERROR).error) == (State.FAILED, ERROR)


@pytest.mark.parametrize("state", [State.DIVERGED, State.FAILED])
def test_how_a_sample_ended_is_not_taken_back_by_the_death_of_its_process(state):
    sample = told([0.2], state)
    assert sample.died(ERROR) == sample.ended() == sample and sample.error == "no number"


def test_an_end_for_want_of_memory_is_told_with_an_advice():
    assert "--max-concurrent 1" in told([]).died("its process was killed: its machine was low on memory").error


@given(RUNGS)
def test_a_sample_is_read_as_it_was_written(tmp_path_factory, shares):
    run = tmp_path_factory.mktemp("search")
    write(run, told(shares))
    write(run, told([*shares, 1.0]))
    assert read(run) == [told([*shares, 1.0])]
