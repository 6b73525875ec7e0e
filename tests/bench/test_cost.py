"""What a trial took, epoch by epoch, without guesses."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cost import CostMeter


@given(before=st.integers(0, 4), taken_up=st.booleans(), seconds=st.lists(st.floats(0.1, 9), min_size=1, max_size=5))
def test_an_epoch_that_was_not_measured_whole_has_no_time(before, taken_up, seconds):
    meter = CostMeter()
    now = time.perf_counter()
    meter.marks["built"] = now
    for one in seconds:
        meter.epochs.append(now := now + one)
    found = meter.epoch_seconds("built", before + len(seconds), taken_up or before > 0)
    assert len(found) == before + len(seconds)
    unknown = before + (taken_up or before > 0)
    assert found[:unknown] == [None] * unknown
    assert found[unknown:] == [pytest.approx(one, abs=1e-3) for one in seconds[unknown - before :]]


def test_a_trial_taken_up_after_its_last_epoch_knows_no_time():
    meter = CostMeter()
    meter.mark("built")
    assert meter.epoch_seconds("built", 3, taken_up=True) == [None, None, None]
