"""A trial that is interrupted, in one process: it ends with the record that it would have had, and nothing is left."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from bench import leftovers, provenance, stopping, tensor_file
from bench.interval import Interval
from bench.stopping import FILE, Stopped
from bench.study import StudyError, StudySpec
from bench.trial import TrialJob, attempt
from results import store
from results.record import Status
from tests.bench.fault_room import kill_at, lasting, left_behind, models, quiet, raised_at
from tests.bench.trial_room import jobs_of

STEPS = 7
ARMS = {
    "cosine": {"train": {"schedule": "cosine"}},
    "fp16": {"train": {"precision": "fp16"}},
    "plateau": {"train": {"schedule": "plateau", "patience": 0, "epochs": 6, "optimizer": "adam"}},
}


def study_of(data: Path, out: Path, arm: str = "cosine", every: str = "2 steps", **more: object) -> StudySpec:
    small = {
        "train": {"steps": STEPS, "epochs": 3, "warmup": 0.0} | ARMS[arm]["train"],
        "model": {"image": (16, 16, 16), "width": 16, "depth": 1, "heads": 2, "dropout": 0.2},
    }
    return StudySpec(backbones=("none",), data=str(data), settings=small, out=str(out), checkpoint_every=every, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def quiet_runs(tiny_msd, tmp_path_factory) -> dict[str, tuple[dict, dict[str, str]]]:
    """Of each arm: the record and the model of a trial that nobody interrupted, and that kept nothing."""
    found = {}
    for arm in ARMS:
        out = tmp_path_factory.mktemp("quiet") / arm
        (job,) = jobs_of(study_of(tiny_msd, out, arm, "never"))
        record = attempt(job, quiet)
        assert record.status is Status.COMPLETE, record.error
        found[arm] = lasting(record), models(out)
    return found


@pytest.fixture
def job(tiny_msd, tmp_path) -> TrialJob:
    (one,) = jobs_of(study_of(tiny_msd, tmp_path / "run"))
    return one


def assert_ends_as(job: TrialJob, expected: tuple[dict, dict[str, str]]) -> None:
    record = attempt(job, quiet)
    assert record.status is Status.COMPLETE, record.error
    assert lasting(record) == expected[0]
    assert models(Path(job.run)) == expected[1]
    assert store.read(Path(job.run)) == [record] and not left_behind(Path(job.run))


@settings(max_examples=8)
@given(st.sampled_from(list(ARMS)), st.integers(1, 3), st.lists(st.integers(1, STEPS), min_size=1, max_size=2))
def test_a_trial_killed_at_any_steps_ends_with_the_record_of_one_that_was_not(tiny_msd, quiet_runs, arm, every, kills):
    with tempfile.TemporaryDirectory() as folder:
        (job,) = jobs_of(study_of(tiny_msd, Path(folder) / "run", arm, f"{every} steps"))
        for kill in sorted(kills):  # a later kill finds the trial at or before its step
            kill_at(job, kill)
        assert_ends_as(job, quiet_runs[arm])


def test_it_goes_on_from_the_last_checkpoint_and_not_from_the_beginning(job, quiet_runs):
    kill_at(job, 6)
    assert len(list(checkpoints(job))) == 2
    with raised_at(4, AssertionError("step 4 is made again")):
        record = attempt(job, quiet)
    assert record.status is Status.COMPLETE, record.error
    assert lasting(record) == quiet_runs["cosine"][0]
    assert record.provenance["taken_up"][0].endswith(" at step 4") and record.cost["checkpoints"] == 2


def checkpoints(job: TrialJob) -> list[Path]:
    """From the oldest to the newest."""
    return sorted((Path(job.run) / "checkpoints").rglob("step-*"))


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


DAMAGE = {
    "a flipped bit": flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize(("damage", "part"), [*((name, "rank-0") for name in DAMAGE), ("a flipped bit", "shared")])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_is_used(job, quiet_runs, damage, part):
    kill_at(job, 6)
    (path,) = checkpoints(job)[-1].glob(f"{part}.*")
    DAMAGE[damage](path)
    record = attempt(job, quiet)
    assert lasting(record) == quiet_runs["cosine"][0]
    assert record.provenance["taken_up"][0].endswith(" at step 2")
    assert len(record.provenance["notices"]) == 1 and "step-00000004" in record.provenance["notices"][0]


def test_where_no_checkpoint_is_good_training_starts_anew(job, quiet_runs):
    kill_at(job, 6)
    for place in checkpoints(job):
        for path in place.iterdir():
            flip(path)
    record = attempt(job, quiet)
    assert lasting(record) == quiet_runs["cosine"][0] and record.provenance["taken_up"] == []
    assert len(record.provenance["notices"]) == 2


def test_what_lies_among_the_checkpoints_and_is_none_ends_no_trial(job, quiet_runs):
    kill_at(job, 6)
    place = checkpoints(job)[-1]
    (place.parent / "step-00000001.bak").mkdir()
    (place.parent.parent / "0123" / "step-00000002").mkdir(parents=True)
    (place.parent.parent / "0123" / "setup.json").write_text("")
    flip(next(place.glob("rank-0.*")))
    flip(next(checkpoints(job)[-2].glob("rank-0.*")))
    record = attempt(job, quiet)
    assert lasting(record) == quiet_runs["cosine"][0]
    assert any("0123/setup.json: cannot be read" in notice for notice in record.provenance["notices"])


def test_a_checkpoint_of_other_code_is_told_and_not_taken_up(job, monkeypatch):
    kill_at(job, 6)
    code = provenance.code()
    monkeypatch.setattr(provenance, "code", lambda: "another")
    record = attempt(job, quiet)
    assert record.provenance["taken_up"] == []
    assert f"was made with code {code}" in record.provenance["notices"][0]


def test_what_killed_processes_had_begun_to_write_goes_with_the_next_run(tmp_path):
    drafts = ["trials/t/a/.x.json.12.tmp", "models/t/.m.tmp", "previews/.p.npz.1.tmp", ".train-ab/x/y", ".seen-12"]
    kept = ["trials/t/a/x.json", "models/t/m.safetensors", "report/.page.tmp", ".lock"]
    for name in (*drafts, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    leftovers.sweep_drafts(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_checkpoint_of_another_setup_is_told_and_not_taken_up(job, quiet_runs):
    kill_at(job, 6)
    other = replace(job, zero_stage=1)
    record = attempt(other, quiet)
    assert record.status is Status.COMPLETE, record.error
    assert record.provenance["taken_up"] == [] and [entry["step"] for entry in record.curve] == [3, 5, 7]
    (notice,) = record.provenance["notices"]
    assert "the checkpoint of step 4 was made with zero_stage 0" in notice
    assert not left_behind(Path(job.run))


@pytest.mark.parametrize("stage", [1, 2])
def test_every_zero_stage_is_taken_up_bit_for_bit(tiny_msd, tmp_path, stage):
    ended = []
    for name in "ab":
        (job,) = jobs_of(study_of(tiny_msd, tmp_path / name, zero_stage=stage))
        if name == "b":
            kill_at(job, 6)
        record = attempt(job, quiet)
        assert record.status is Status.COMPLETE, record.error
        ended.append((lasting(record), models(tmp_path / name)))
    assert ended[0] == ended[1]


def test_a_frozen_block_is_in_no_checkpoint(tiny_msd, tmp_path):
    study = replace(study_of(tiny_msd, tmp_path / "run"), backbones=("gpt2",), weights={"gpt2": "random"})
    job = next(job for job in jobs_of(study) if job.spec.control == "random")
    kill_at(job, 4)
    sizes = sum(path.stat().st_size for path in checkpoints(job)[-1].iterdir())
    record = attempt(job, quiet)
    assert record.status is Status.COMPLETE, record.error
    trained = 3 * 4 * record.cost["trainable_parameters"]  # fp32: weights and two moments
    assert trained < sizes < 1.2 * trained + 50_000 < 4 * record.cost["frozen_parameters"]


def test_never_keeps_nothing_and_time_keeps_nothing_of_a_short_trial(tiny_msd, tmp_path):
    for every in ("never", "5m"):
        (job,) = jobs_of(study_of(tiny_msd, tmp_path / every, every=every))
        kill_at(job, 6)
        assert not checkpoints(job)


def test_by_time_a_checkpoint_is_made_once_it_is_up(tiny_msd, tmp_path, quiet_runs):
    (job,) = jobs_of(study_of(tiny_msd, tmp_path / "run", every="0.000001s"))
    kill_at(job, 6)
    assert [path.name for path in checkpoints(job)] == ["step-00000004", "step-00000005"]
    assert_ends_as(job, quiet_runs["cosine"])


def test_a_budget_of_wall_time_counts_what_was_spent(tiny_msd, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_SECONDS", 0.0)
    study = study_of(tiny_msd, tmp_path / "run")
    timed = {**study.settings, "train": {"budget": "2s", "epochs": 4}}
    (job,) = jobs_of(replace(study, settings=timed, checkpoint_every="1 steps"))
    (Path(job.run) / FILE).parent.mkdir(parents=True, exist_ok=True)
    made = []

    def stop_after_half(entry: dict, share: float) -> None:
        made.append(entry)
        if len(made) == 2:
            (Path(job.run) / FILE).touch()

    with pytest.raises(Stopped):
        attempt(job, stop_after_half)
    (Path(job.run) / FILE).unlink()
    started = time.monotonic()
    record = attempt(job, quiet)
    assert record.status is Status.COMPLETE, record.error
    assert record.cost["train_seconds"] >= 2 and time.monotonic() - started < 2 + 10  # scoring on a busy machine
    first = [entry["step"] for entry in made if "loss" in entry]
    assert [entry["step"] for entry in record.curve][:2] == first[:2]
    assert len(record.curve) <= 4 and record.curve[-1]["step"] == record.cost["steps"]


def test_asked_to_stop_a_trial_keeps_a_checkpoint_and_has_no_record(job, quiet_runs, monkeypatch):
    monkeypatch.setattr(stopping, "_SECONDS", 0.0)
    run = Path(job.run)
    run.mkdir(parents=True)

    def ask(entry: dict, share: float) -> None:
        (run / FILE).touch()

    long = replace(job, checkpoint_every="1h")
    with pytest.raises(Stopped, match="stopped at step"):
        attempt(long, ask)
    assert not store.read(run) and len(checkpoints(long)) == 1
    (run / FILE).unlink()
    assert_ends_as(long, quiet_runs["cosine"])


def test_a_full_disk_leaves_no_half_checkpoint_and_the_trial_goes_on(job, quiet_runs, monkeypatch):
    save, calls = tensor_file.save_file, []

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        calls.append(path)
        if "checkpoints" in str(path) and len(calls) > 2:  # the first checkpoint, of two files, fits
            path.write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(tensors, path, metadata)

    monkeypatch.setattr(tensor_file, "save_file", full)
    kill_at(job, 7)
    assert [path.name for path in checkpoints(job)] == ["step-00000002"]
    assert not [path for path in Path(job.run).rglob("*") if path.name.endswith((".tmp", ".draft", ".part"))]
    record = attempt(job, quiet)
    assert lasting(record) == quiet_runs["cosine"][0]
    assert record.provenance["taken_up"][0].endswith(" at step 2")
    assert all("No space left" in notice and "no checkpoint" in notice for notice in record.provenance["notices"])
    assert len(record.provenance["notices"]) == 3 and not left_behind(Path(job.run))


def test_a_full_disk_as_the_record_is_written_leaves_none_and_the_same_trial_finishes_later(
    job, quiet_runs, monkeypatch
):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device") as raised:
            attempt(job, quiet)
    assert raised.value.filename.endswith(f"{job.spec.digest}.json")
    assert not list((Path(job.run) / "trials").rglob("*.json"))
    assert_ends_as(job, quiet_runs["cosine"])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        ),
        MemoryError(),
        MemoryError("Unable to allocate 8.00 GiB for an array"),
    ],
)
def test_out_of_memory_is_recorded_with_an_advice_and_tried_again(job, quiet_runs, error):
    with raised_at(2, error):
        record = attempt(job, quiet)
    assert record.status is Status.FAILED
    last = record.error.splitlines()[-1]
    assert type(error).__name__ in last and "try --checkpointing, a smaller --set train.batch" in last
    assert_ends_as(job, quiet_runs["cosine"])


def test_a_clock_that_leaps_changes_nothing_but_stamps(job, quiet_runs, monkeypatch):
    real, leaps = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** (n := next(leaps)) * 1e6 * n)
    timed = replace(job, checkpoint_every="0.000001s")
    kill_at(timed, 5)
    assert [path.name for path in checkpoints(timed)] == ["step-00000003", "step-00000004"]
    assert_ends_as(timed, quiet_runs["cosine"])


def test_how_often_is_read_as_people_write_it():
    assert Interval.of("5m", 10, 2) == Interval(seconds=300)
    assert Interval.of("2 epochs", 10, 4) == Interval(steps=5)
    assert Interval.of("30 steps", 10, 4) == Interval(steps=30)
    assert not Interval.of("never", 10, 4)
    for wrong in ("5", "sometimes", "0 s", ""):
        with pytest.raises(StudyError, match=r"^--checkpoint-every: .* or never$"):
            StudySpec(checkpoint_every=wrong)
