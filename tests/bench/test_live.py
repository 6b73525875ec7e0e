"""A running trial tells of itself, and one whose process died is known as such."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import live
from bench.alive import SILENT, Heart, Owner
from bench.held_out import TRAINING_SHARE
from tests.results import fake

EPOCHS, BATCH = 4, 3


@pytest.fixture
def job(tmp_path):
    spec = replace(fake.spec(), train={"epochs": EPOCHS, "batch": BATCH})
    return SimpleNamespace(spec=spec, run=str(tmp_path / "run"))


def path_of(job):
    return live.path_of(live.Path(job.run), job.spec.key)


def only(job):
    (state,) = live.read(live.Path(job.run)).values()
    return state


def test_a_trial_tells_from_its_start_to_its_end(job):
    passed = []
    with live.telling(job, lambda entry, share: passed.append((entry, share))) as report:
        assert (only(job).doing, only(job).epochs, only(job).gone) == ("preparing", EPOCHS, "")
        report({"step": 5, "loss": 0.5, "dice": None}, 0.25 * TRAINING_SHARE)
        state = only(job)
        assert (state.doing, state.epoch, state.step, state.loss, state.dice) == ("training", 1, 5, 0.5, None)
        assert (state.validation_dice, state.validated) == (None, 0)
        report({"scored": 1}, 0.9)
        assert (only(job).doing, only(job).loss, only(job).share) == ("scoring", 0.5, 0.9)
    assert live.read(live.Path(job.run)) == {} and not path_of(job).exists()
    assert [share for _, share in passed] == [0.25 * TRAINING_SHARE, 0.9]


def test_a_validation_dice_is_told_until_there_is_another():
    state, told = live.Live("host", 1, 0.0, started=0.0, updated=0.0, epochs=EPOCHS), []
    for step, more in ((5, {}), (10, {"validation_dice": 0.25}), (15, {}), (20, {"validation_dice": None})):
        state = state.after({"step": step, "loss": 1.0, "dice": 0.5} | more, 0.1, BATCH, float(step))
        told.append((state.validation_dice, state.validated))
    assert told == [(None, 0), (0.25, 10), (0.25, 10), (None, 20)]


def test_what_fails_leaves_its_file_and_a_full_disk_fails_nothing(job, tmp_path):
    with pytest.raises(RuntimeError), live.telling(job, lambda entry, share: None):
        raise RuntimeError
    assert only(job).doing == "preparing"
    job.run = str(tmp_path / "full")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "live").touch()  # a file where the folder has to be
    heard = []

    def broken(state):
        heard.append(state.step)
        raise OSError("no space left")

    with live.telling(job, lambda entry, share: None, broken) as report:
        report({"step": 5, "loss": 0.5, "dice": 0.5}, 0.25)
    assert heard == [5]


@given(
    steps=st.lists(st.integers(1, 50), min_size=2, max_size=6),
    seconds=st.lists(st.floats(0.01, 100), min_size=6, max_size=6),
)
def test_samples_a_second_are_those_between_two_entries(steps, seconds):
    state = live.Live("host", 1, 0.0, started=0.0, updated=0.0, epochs=EPOCHS)
    now, step = 0.0, 0
    for number, (more, passed) in enumerate(zip(steps, seconds, strict=False)):
        now, step = now + passed, step + more
        state = state.after({"step": step, "loss": 1.0, "dice": 0.1}, 0.1, BATCH, now)
        expected = None if number == 0 else more * BATCH / passed
        assert state.samples_per_second == (expected and pytest.approx(expected, rel=1e-6))


def test_the_process_table_tells_on_its_own_host_and_silence_elsewhere():
    here, now = Owner.here(), time.time()
    assert here.gone(heard=0.0) == ""  # an epoch may take hours: on its own host silence says nothing
    assert "is gone" in replace(here, born=here.born - 100).gone(now)  # its pid was given to another process
    other = replace(here, host="elsewhere")
    assert other.gone(now - SILENT / 2, now) == other.gone(now + 1000, now) == ""
    assert "nothing heard from process" in other.gone(now - SILENT - 1, now)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        child = Owner(here.host, process.pid, live_since(process.pid))
        assert child.gone(now) == ""
        process.kill()
        process.wait()
        assert child.gone(now) == f"its process {process.pid} is gone"


def live_since(pid):
    import psutil

    return psutil.Process(pid).create_time()


def test_a_heart_beats_until_its_end():
    beats = []
    with Heart(lambda: beats.append(time.monotonic()), seconds=0.01):
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    number = len(beats)
    time.sleep(0.05)
    assert number >= 3 and len(beats) == number


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"host": 1}', "null", '{"other": 1}'])
def test_a_damaged_file_counts_as_none(job, body):
    path = path_of(job)
    path.parent.mkdir(parents=True)
    path.write_text(body)
    assert live.read(live.Path(job.run)) == {}
    whole = asdict(live.Live("h", 1, 0.0, 0.0, 0.0))
    path.write_text(json.dumps(whole))
    assert list(live.read(live.Path(job.run))) == [job.spec.key]
    path.write_text(json.dumps(whole | {"loss": "low"}))
    assert live.read(live.Path(job.run)) == {}
