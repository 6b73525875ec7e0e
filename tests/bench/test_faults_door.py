"""What `bench run` says of faults before any trial runs: a folder that is held, a diverged trial, a stale report."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import plan, preflight, stopping
from bench.study import StudySpec, bind
from bench.trial import attempt
from results import store
from results.record import Status
from tests.bench.door import flags_of
from tests.bench.fault_room import kill_at, left_behind, quiet

REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from bench.holder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
SMALL = {
    "train": {"steps": 4, "epochs": 2},
    "model": {"image": (16, 16, 16), "width": 16, "depth": 1, "heads": 2},
}


def flags(study: StudySpec) -> list[str]:
    sets = [("train", "steps=4"), ("train", "epochs=2"), ("model", "image=16,16,16"), ("model", "width=16")]
    more = [("model", "depth=1"), ("model", "heads=2")]
    settings = [f"{group}.{rest}" for group, rest in sets + more] + [
        f"train.{name}={value}" for name, value in study.settings["train"].items() if name not in ("steps", "epochs")
    ]
    return [
        *("run", "--backbones", "none", "--data", str(study.data), "--out", str(study.out)),
        *flags_of(*settings),
    ]


def ran(study: StudySpec) -> list[Status]:
    """Run a study's trials in this process, and leave its folder as `bench run` would; the trials' statuses."""
    ground = preflight.check(study, lambda text: None)
    jobs = plan.expand(study, ground)
    study.run.mkdir(parents=True, exist_ok=True)
    plan.remember(study.run, [job.spec for job in jobs])
    plan.save_splits(study, ground, study.run)
    bind(study, study.run)
    return [attempt(job, quiet).status for job in jobs]


@pytest.fixture
def study(tiny_msd, tmp_path) -> StudySpec:
    return StudySpec(backbones=("none",), data=str(tiny_msd), settings=SMALL, out=str(tmp_path / "run"))


def test_a_second_driver_is_refused_with_the_firsts_host_and_process_and_a_killed_one_holds_nothing(bench, study):
    assert ran(study) == [Status.COMPLETE]
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(study.out)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    try:
        assert first.stdout and first.stdout.readline() == "held\n"
        code, out, err = bench(*flags(study))
        assert code == 2 and not out
        assert f"process {first.pid} on host {socket.gethostname()}" in err and "use another --out" in err
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    code, out, err = bench(*flags(study))
    assert code == 0 and "nothing to run: 1 of 1 trials are complete" in out, out + err


def test_a_trial_that_diverged_is_not_run_again_and_is_listed_everywhere(bench, study, tmp_path):
    wild = {**SMALL, "train": SMALL["train"] | {"lr": 1e30, "clip": 1e30, "warmup": 0.0}}
    lost = StudySpec(backbones=("none",), data=study.data, settings=wild, out=study.out)
    assert ran(lost) == [Status.DIVERGED]
    before = {path: path.read_bytes() for path in (lost.run / "trials").rglob("*.json")}
    code, out, err = bench(*flags(lost))
    assert code == 1 and "starting Ray" not in out, out + err
    assert "0 to run" in out and "diverged: Task99_Tiny with none, seed 0, fold 0: " in out
    assert "the loss is" in out and "--retry-diverged" in out and "to run what is missing" not in out
    assert {path: path.read_bytes() for path in (lost.run / "trials").rglob("*.json")} == before
    page = (lost.run / "report" / "report.md").read_text()
    assert "0 of 1 trials complete, 1 failed" in page and "diverged" in page and "the loss is" in page
    _, status, _ = bench("status", lost.out)
    assert "the loss is" in status and "0 of 1 trials complete" in status
    _, planned, _ = bench("plan", *flags(lost)[1:])
    assert "1 diverged" in planned and "0 to run" in planned


def test_a_report_is_written_again_if_its_writing_was_cut_short_whatever_the_clock_says(bench, study):
    assert ran(study) == [Status.COMPLETE]
    page = study.run / "report" / "index.html"
    code, out, _ = bench(*flags(study))
    assert code == 0 and "writing the report" in out and page.exists()
    for path in (study.run / "trials").rglob("*.json"):
        os.utime(path, (4e9, 4e9))  # written "later" by a clock that leapt back since
    assert "writing the report" not in bench(*flags(study))[1]
    more = StudySpec(backbones=("none",), data=study.data, settings=SMALL, out=study.out, seeds=(1,))
    assert ran(more) == [Status.COMPLETE]
    for path in (study.run / "trials").rglob("*.json"):
        os.utime(path, (0, 0))  # "long before" the page
    assert "writing the report" in bench(*flags(study))[1]


def test_checkpoints_of_a_complete_trial_go_with_the_next_command(bench, study):
    often = StudySpec(backbones=("none",), data=study.data, settings=SMALL, out=study.out, checkpoint_every="1 steps")
    (job,) = plan.expand(often, preflight.check(often, lambda text: None))
    kill_at(job, 3)
    kept = study.run / "checkpoints"
    aside = study.run.parent / "aside"
    kept.rename(aside)
    assert ran(study) == [Status.COMPLETE]
    aside.rename(kept)  # as after a kill between the record and their removal
    code, out, err = bench(*flags(study))
    assert code == 0 and "nothing to run" in out, out + err
    assert not kept.exists()


def test_how_often_checkpoints_are_made_is_no_part_of_a_trials_digest(study):
    digests = set()
    for every in ("never", "2m", "3 epochs"):
        one = StudySpec(backbones=("none",), data=study.data, settings=SMALL, out=study.out, checkpoint_every=every)
        digests |= {job.spec.digest for job in plan.expand(one, preflight.check(one, lambda text: None))}
    assert len(digests) == 1


def test_a_study_file_says_how_often(bench, study, tmp_path):
    (tmp_path / "study.toml").write_text('checkpoint_every = "often"\n')
    code, _, err = bench(*flags(study), "--study", "study.toml")
    assert code == 2 and "study.toml: checkpoint_every: 'often' is not an interval" in err and "never" in err


def test_the_holder_leaves_nothing(study):
    from bench.holder import FILE, held

    study.run.mkdir(parents=True)
    with held(study.run):
        assert json.loads((study.run / FILE).read_text())["pid"] == os.getpid()
    assert not (study.run / FILE).exists() and not store.read(study.run)


def test_a_full_disk_is_told_in_a_line_and_leaves_what_was_there(bench, study, monkeypatch):
    assert ran(study) == [Status.COMPLETE]
    before = {path: path.read_bytes() for path in study.run.rglob("*") if path.is_file()}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", full)
        code, _, err = bench(*flags(study))
    assert code == 1 and "the disk is full; make room, and the same command goes on from here" in err
    assert str(study.run) in err.splitlines()[-1] and "Traceback" not in err
    after = {path: path.read_bytes() for path in study.run.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before and not left_behind(study.run)
    assert bench(*flags(study))[0] == 0


def test_sigterm_asks_trials_to_stop_once_and_ends_the_run_the_second_time(study):
    study.run.mkdir(parents=True)
    look = stopping.asked(study.run)
    assert not look()
    with stopping.Stop(study.run) as stop:
        stop.trials(True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked and not stop.over and stopping.asked(study.run)()
        with pytest.raises(stopping.Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
    assert not stopping.asked(study.run)()
    with stopping.Stop(study.run), pytest.raises(stopping.Terminated):  # no trial runs yet that could be waited for
        os.kill(os.getpid(), signal.SIGTERM)


def test_after_sigterm_the_trials_that_ran_are_waited_for_and_no_longer_than_their_time(study, monkeypatch):
    from bench.launch.watch import Watch

    def trial(name: str, status: str) -> SimpleNamespace:
        return SimpleNamespace(trial_id=name, status=status)

    study.run.mkdir(parents=True)
    with stopping.Stop(study.run) as stop:
        watch = Watch({}, lambda key, share: None, stop)
        stop.trials(True)
        watch.on_step_end(0, [])
        os.kill(os.getpid(), signal.SIGTERM)
        watch.on_step_end(1, [trial("a", "RUNNING"), trial("b", "RUNNING"), trial("c", "PENDING")])
        later = [trial("a", "TERMINATED"), trial("b", "RUNNING"), trial("c", "RUNNING")]
        watch.on_step_end(2, later)
        with monkeypatch.context() as patch, pytest.raises(stopping.Terminated):
            later_on = SimpleNamespace(monotonic=lambda: time.monotonic() + stopping.GRACE)
            patch.setattr(stopping, "time", later_on)
            watch.on_step_end(3, later)
        later[1].status = "TERMINATED"
        with pytest.raises(stopping.Terminated):  # c began after the signal: it ends at once by itself
            watch.on_step_end(4, later)


def test_who_looks_is_told_of_a_stop_once_the_time_is_up_and_of_ctrl_c(study, monkeypatch):
    study.run.mkdir(parents=True)
    monkeypatch.setenv("BENCH_GRACE", "0.2")
    with stopping.Stop(study.run) as stop:
        stop.trials(True)
        stop.look()
        os.kill(os.getpid(), signal.SIGTERM)
        stop.look()
        time.sleep(0.3)
        with pytest.raises(stopping.Terminated):
            stop.look()
    monkeypatch.setenv("BENCH_GRACE", "1000")
    with stopping.Stop(study.run) as stop:
        stop.without_grace()
        stop.look()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(stopping.Terminated):
            stop.look()
    with stopping.Stop(study.run) as stop, pytest.raises(KeyboardInterrupt), stop.stepwise():
        os.kill(os.getpid(), signal.SIGINT)
        stop.look()


def test_ctrl_c_amid_trials_is_noted_once_and_raised_where_it_cannot_be_lost(study):
    study.run.mkdir(parents=True)
    before = signal.getsignal(signal.SIGINT)
    with stopping.Stop(study.run) as stop, pytest.raises(KeyboardInterrupt), stop.stepwise():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.interrupted
    with stopping.Stop(study.run) as stop, pytest.raises(KeyboardInterrupt, match="in earnest"), stop.stepwise():
        os.kill(os.getpid(), signal.SIGINT)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt("in earnest") from error
    assert signal.getsignal(signal.SIGINT) is before
