"""How long trials take, in which order they begin, and what `bench plan` tells of it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import estimate, machine, plan, preflight
from bench.estimate import Duration, Past, Room
from bench.running import Running
from bench.study import StudySpec
from mvl.references import REGISTRY
from results import store
from results.record import Status, TrialResult

SECONDS = st.lists(st.floats(0.1, 100), min_size=1, max_size=6)
SMALL = {"model": {"image": (16, 16, 16), "width": 16, "depth": 1}}


def best(seconds: list[float], places: int) -> float:
    """The shortest makespan that any assignment has."""
    ways = itertools.product(range(places), repeat=len(seconds))
    return min(
        max(sum(s for s, at in zip(seconds, way, strict=True) if at == p) for p in range(places)) for way in ways
    )


def order(seconds: list[float]) -> list[float]:
    return sorted(seconds, reverse=True)


@given(SECONDS, st.integers(1, 3))
def test_longest_first_ends_within_a_third_of_the_best_order(seconds, places):
    """Graham's bound (1969) for the longest processing time first."""
    found, optimum = estimate.makespan(order(seconds), places), best(seconds, places)
    assert optimum <= found + 1e-9
    assert found <= optimum * (4 / 3 - 1 / (3 * places)) + 1e-9


@given(SECONDS, st.integers(1, 3))
def test_no_place_is_free_while_a_trial_waits(seconds, places):
    """Whichever ends last had begun by the time that all before it, spread over the places, would have taken."""
    ordered = order(seconds)
    latest = max(sum(ordered[:n]) / places + one for n, one in enumerate(ordered))
    assert max(sum(ordered) / places, ordered[0]) - 1e-9 <= estimate.makespan(ordered, places) <= latest + 1e-9


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), max_size=8))
def test_equal_trials_stay_in_order(seconds):
    class Job:
        def __init__(self, number: int) -> None:
            self.spec = type("Spec", (), {"digest": number})

    jobs = [Job(number) for number in range(len(seconds))]
    took = {number: Duration(one, "estimated") for number, one in enumerate(seconds)}
    found = [job.spec.digest for job in estimate.longest_first(jobs, took)]
    assert found == sorted(range(len(seconds)), key=lambda number: (-seconds[number], number))


@pytest.mark.parametrize(
    ("running", "cores", "gpus", "room"),
    [
        (Running(), 8, 0, Room(8, 1, False)),
        (Running(max_concurrent=2), 8, 0, Room(2, 4, False)),
        (Running(workers_per_trial=2), 8, 0, Room(4, 1, False)),
        (Running(cpus_per_worker=3), 8, 0, Room(2, 3, False)),
        (Running(), 8, 4, Room(4, 2, True)),
        (Running(gpus_per_worker=0.5), 8, 2, Room(4, 2, True)),
        (Running(gpus_per_worker=0), 8, 2, Room(8, 1, False)),
        (Running(address="auto", max_concurrent=20), 8, 0, Room(20, 1, False)),
    ],
)
def test_what_runs_at_a_time(monkeypatch, running, cores, gpus, room):
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    found = Room.here(running)
    assert (found.trials, found.gpu) == (room.trials, room.gpu)
    assert room.gpu or found.threads == room.threads


@pytest.fixture
def two_tasks(tmp_path, make_task) -> Path:
    """A data folder: one task of small images, then one of larger images."""
    make_task(tmp_path / "data", "Task01_Small", size=16)
    make_task(tmp_path / "data", "Task02_Large", size=40, seed=1)
    return tmp_path / "data"


def jobs_of(data: Path, run: Path, **more):
    settings = SMALL | {"train": {"steps": 50}, "data": {"max_voxels": 64**3}}
    study = StudySpec(data=str(data), out=str(run), settings=settings, **more)
    ground = preflight.check(study, lambda line: None)
    return plan.expand(study, ground), ground


def finished(job, seconds: float, **provenance) -> TrialResult:
    """A complete record of so many seconds; nothing was trained."""
    cost = {"train_seconds": 0.8 * seconds, "score_seconds": 0.2 * seconds}
    told = {"device": "cpu", "workers": 1, "threads": 1} | provenance
    return TrialResult(job.spec, Status.COMPLETE, job.info, provenance=told, cost=cost)


ROOM = Room(2, 1, False)


def test_larger_images_and_longer_training_are_estimated_longer(two_tasks, tmp_path):
    jobs, ground = jobs_of(two_tasks, tmp_path / "run")
    took = estimate.durations(jobs, ground.checks, Past(), ROOM)
    small, large = (took[job.spec.digest] for job in jobs)
    assert small.how == large.how == "estimated" and 0 < small.seconds < large.seconds
    assert [job.spec.task for job in estimate.longest_first(jobs, took)] == ["Task02_Large", "Task01_Small"]


def test_a_record_of_such_a_trial_is_a_measurement_and_scales_the_others(two_tasks, tmp_path):
    jobs, ground = jobs_of(two_tasks, tmp_path / "run", seeds=(0, 1))
    guessed = estimate.durations(jobs, ground.checks, Past(), ROOM)
    past = Past()
    past.add(finished(jobs[0], 1000.0))
    took = estimate.durations(jobs, ground.checks, past, ROOM)
    same = [took[job.spec.digest] for job in jobs if job.spec.task == "Task01_Small"]
    others = [job.spec.digest for job in jobs if job.spec.task == "Task02_Large"]
    assert [one.how for one in same] == ["measured"] * 2 and same[0].seconds == pytest.approx(1000, rel=0.01)
    assert {took[digest].how for digest in others} == {"scaled"}
    assert took[others[0]].seconds > 1000 > guessed[others[0]].seconds


@pytest.mark.parametrize("provenance", [{"workers": 2}, {"threads": 4}])
def test_a_record_of_another_way_to_run_only_scales(two_tasks, tmp_path, provenance):
    jobs, ground = jobs_of(two_tasks, tmp_path / "run")
    past = Past()
    past.add(finished(jobs[0], 100.0, **provenance))
    assert estimate.durations(jobs, ground.checks, past, ROOM)[jobs[0].spec.digest].how == "scaled"


def test_without_a_measurement_on_a_gpu_nothing_is_known_of_one(two_tasks, tmp_path):
    jobs, ground = jobs_of(two_tasks, tmp_path / "run")
    past = Past()
    past.add(finished(jobs[0], 100.0))  # on a CPU
    took = estimate.durations(jobs, ground.checks, past, Room(2, 1, True))
    assert {one.how for one in took.values()} == {"unknown"}
    assert len({one.seconds for one in took.values()}) == 2  # yet they can be put in order
    past.add(finished(jobs[1], 10.0, device="cuda:0"))
    assert {one.how for one in estimate.durations(jobs, ground.checks, past, Room(2, 1, True)).values()} == {
        "measured",
        "scaled",
    }


def told(line: str, out: str) -> str:
    return next(row for row in out.splitlines() if row.startswith(line))


def test_plan_tells_work_and_hours_and_learns_from_records_beside(bench, two_tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "gpus", lambda: 0)
    flags = ["--backbones", "none", "--data", two_tasks, "--steps", 50, "--set", "model.width=16"]
    code, out, err = bench("plan", *flags, "--out", "runs/a")
    assert code == 0, err
    assert re.search(r"\d FLOP|[kMGT]FLOP", out) and "~" in out
    assert "2 trials at a time" in told("expected: ", out) and "2 estimated from their work" in told("expected: ", out)

    study = StudySpec(data=str(two_tasks), out="runs/b", settings={"train": {"steps": 50}, "model": {"width": 16}})
    for job in plan.expand(study, preflight.check(study, lambda line: None)):
        store.write(Path("runs/b"), finished(job, 3600.0))
    code, out, _ = bench("plan", *flags, "--out", "runs/a", "--max-concurrent", 2)
    assert code == 0 and "expected: 60 min with 2 trials at a time, 2.0 h of trials in all" in out, out
    assert "2 trials as measured before" in out and "~" not in told("expected: ", out)
    code, out, _ = bench("plan", *flags, "--out", "runs/b")
    assert code == 0 and "2 complete, 0 to run" in out and "expected" not in out


def test_plan_tells_the_work_of_each_reference(bench, two_tasks):
    code, out, err = bench("plan", "--data", two_tasks, "--tasks", "Task01_Small", "--references", "all")
    rows = [line for line in out.splitlines() if "(reference)" in line]
    assert code == 0 and len(rows) == len(REGISTRY) and all("FLOP" in row for row in rows), out + err


def test_plan_does_not_ask_a_cluster(bench, two_tasks):
    code, out, err = bench("plan", "--data", two_tasks, "--address", "10.255.255.1:6379", "--workers-per-trial", 2)
    assert code == 0, err
    assert "one trial at a time (the cluster at 10.255.255.1:6379 was not asked" in out


def test_a_damaged_record_of_another_run_is_not_this_ones_concern(bench, two_tasks):
    where = Path("runs/b/trials/Task01_Small/none")
    where.mkdir(parents=True)
    (where / "0-0-abcdefabcdef.json").write_text("{")
    assert bench("plan", "--data", two_tasks, "--out", "runs/a")[0] == 0


def test_the_longest_trials_are_handed_to_ray_first(bench, two_tasks, monkeypatch):
    from bench import launch
    from bench.launch import jobs as on_tune
    from bench.launch.session import Dashboard

    handed: list[str] = []

    def run(jobs, *given, **named) -> None:
        handed.extend(job.spec.task for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "start", lambda *given, **named: Dashboard("", "", ""))
    monkeypatch.setattr(launch, "stop", lambda: None)
    monkeypatch.setattr(on_tune, "run", run)
    code, _, err = bench("run", "--data", two_tasks, "--steps", 50, "--out", "run")
    assert code == 130, err
    assert handed == ["Task02_Large", "Task01_Small"]
