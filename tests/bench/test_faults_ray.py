"""Faults of a whole run: its processes are killed, stopped, or run out of room, and the same command finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.study import StudySpec
from bench.trial import attempt
from results import store
from results.record import Status, TrialResult
from tests.bench.door import flags_of
from tests.bench.fault_room import lasting, left_behind, models
from tests.bench.trial_room import jobs_of
from tests.soak import soak

REPOSITORY = Path(__file__).parents[2]
SIZES = ("model.image=16,16,16", "model.width=16", "model.depth=1", "model.dropout=0.1", "train.epochs=4")
STEPS = 160
LIMIT = 280.0
#: A test is of three commands at most, each with its own limit.
pytestmark = pytest.mark.timeout(3 * LIMIT + 120)
#: What Ray calls the process of a Tune function.
WORKER = "ray::ImplicitFunc"


class Run:
    """A study of two trials of some seconds each, in a folder of its own, run as a user runs it."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.temp = folder.with_name(f"{folder.name}-temp")
        self.family: dict[int, psutil.Process] = {}
        self.drivers: list[subprocess.Popen[str]] = []

    def start(self, *more: str, **env: str) -> subprocess.Popen[str]:
        fixed = ["--data", str(self.data), "--out", str(self.folder), "--backbones", "none", "--seeds", "0,1"]
        kept = flags_of(*SIZES)
        line = [sys.executable, "-m", "bench", "run", *fixed, *kept, "--steps", str(STEPS), *more]
        if "--checkpoint-every" not in more:
            line += ["--checkpoint-every", "10 steps"]
        self.temp.mkdir(exist_ok=True)
        own = {"TMPDIR": str(self.temp), "RAY_TMPDIR": tempfile.gettempdir()}  # Ray's sockets want a short path
        paths = [*filter(None, [env.pop("first_path", "")]), str(REPOSITORY)]
        started = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | own | env | {"PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        self.drivers.append(started)
        return started

    def finish(self, *more: str, **env: str) -> str:
        """The same command, to its end; it must complete all trials."""
        started = self.start(*more, **env)
        out, err = started.communicate(timeout=LIMIT)
        assert started.returncode == 0, out + err
        assert "Traceback" not in err and "2 of 2 trials complete" in out, out + err
        return out

    def processes(self, driver: int, name: str) -> list[psutil.Process]:
        """The driver's descendants whose first word has this in it; all that were ever seen are remembered."""
        for process in psutil.Process(driver).children(recursive=True):
            self.family[process.pid] = process
        return [one for one in self.family.values() if name in _first_word(one)]

    def checkpoints(self) -> list[Path]:
        return list((self.folder / "checkpoints").rglob("step-*"))

    def records(self) -> list[TrialResult]:
        return store.read(self.folder)

    def alive(self) -> list[str]:
        """What of the processes that were seen is still there after a while; what nobody has waited for is not."""
        _, left = psutil.wait_procs(
            list(self.family.values()), timeout=100
        )  # Ray's agents look for their raylet's server that long
        return [_first_word(one) for one in left if _first_word(one)]


def _first_word(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0].split("(")[0]
    except psutil.Error:
        return ""


def wait_for(what: Callable[[], object], started: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert started.poll() is None, "".join(started.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def run(tiny_msd, tmp_path) -> Iterator[Run]:
    one = Run(tiny_msd, tmp_path / "run")
    yield one
    for driver in one.drivers:  # only what the test itself began, and only where it failed
        if driver.poll() is None:
            one.processes(driver.pid, "")
            driver.kill()
    for process in one.family.values():
        if process.is_running():
            process.kill()


@pytest.fixture(scope="module")
def quiet(tiny_msd, tmp_path_factory) -> Run:
    """The same trials, undisturbed, without Ray."""
    one = Run(tiny_msd, tmp_path_factory.mktemp("quiet") / "run")
    sizes = {"image": (16, 16, 16), "width": 16, "depth": 1, "dropout": 0.1}
    settings = {"train": {"steps": STEPS, "epochs": 4}, "model": sizes}
    study = StudySpec(
        backbones=("none",), seeds=(0, 1), data=str(tiny_msd), out=str(one.folder), settings=settings,
        checkpoint_every="never",
    )  # fmt: skip
    for job in jobs_of(study):
        assert attempt(job, lambda entry, share: None).status is Status.COMPLETE
    return one


def assert_as_quiet(run: Run, quiet: Run) -> None:
    assert list(map(lasting, run.records())) == list(map(lasting, quiet.records()))
    assert models(run.folder) == models(quiet.folder)
    assert not left_behind(run.folder) and not list(run.temp.glob("bench-*"))


@pytest.mark.slow
def test_workers_and_the_driver_are_killed_and_the_same_command_finishes_as_if_they_had_not_been(run, quiet):
    started = run.start()
    wait_for(run.checkpoints, started)
    workers = [one for one in run.processes(started.pid, WORKER) if one.is_running()]
    for worker in workers:
        worker.kill()
    wait_for(lambda: _taken_up_again(run, started.pid, workers), started)
    started.kill()
    started.communicate(timeout=30)
    assert list(run.temp.glob("bench-tune-*"))
    run.finish()
    assert_as_quiet(run, quiet)
    assert any(record.provenance["taken_up"] for record in run.records())


def _taken_up_again(run: Run, driver: int, dead: list[psutil.Process]) -> bool:
    return any(one not in dead and one.is_running() for one in run.processes(driver, WORKER))


@pytest.mark.slow
def test_a_killed_worker_is_begun_again_by_the_command_itself(run, quiet):
    started = run.start()
    wait_for(run.checkpoints, started)
    for worker in run.processes(started.pid, WORKER):
        worker.kill()
    out, err = started.communicate(timeout=LIMIT)
    assert started.returncode == 0, out + err
    assert_as_quiet(run, quiet)
    assert any(record.provenance["taken_up"] for record in run.records())


@pytest.mark.slow
def test_the_raylet_is_killed_and_the_same_command_finishes(run, quiet):
    started = run.start()
    wait_for(run.checkpoints, started)
    (raylet,) = run.processes(started.pid, "/raylet")
    raylet.kill()
    out, err = started.communicate(timeout=LIMIT)
    assert started.returncode == 0 and "Ray's raylet died" in out and "2 of 2 trials complete" in out, out + err
    assert not run.alive()
    assert_as_quiet(run, quiet)
    assert any(record.provenance["taken_up"] for record in run.records())


@pytest.mark.slow
def test_sigterm_gives_trials_time_for_a_checkpoint_and_the_same_command_goes_on(run, quiet):
    started = run.start("--checkpoint-every", "1h")
    wait_for(lambda: run.processes(started.pid, WORKER), started)
    time.sleep(4)
    asked = time.monotonic()
    os.kill(started.pid, signal.SIGTERM)
    out, err = started.communicate(timeout=LIMIT)
    assert started.returncode == 143 and time.monotonic() - asked < 40, out + err
    assert "stopped by SIGTERM" in out and "the same command goes on from here" in out and "Traceback" not in err
    assert run.checkpoints() and not run.alive() and not (run.folder / ".stop").exists()
    assert not list(run.temp.glob("bench-*")) and "failed" not in out, out
    run.finish("--checkpoint-every", "1h")
    assert_as_quiet(run, quiet)
    assert any(record.provenance["taken_up"] for record in run.records())


@pytest.mark.slow
def test_one_rank_of_two_is_killed_and_both_go_on_from_the_checkpoint(run, tiny_msd, tmp_path):
    calm = Run(tiny_msd, tmp_path / "calm")
    calm.finish("--workers-per-trial", "2")
    started = run.start("--workers-per-trial", "2")
    wait_for(run.checkpoints, started)
    ranks = run.processes(started.pid, "TrainWorker")
    assert ranks, [_first_word(one) for one in run.family.values()]
    ranks[-1].kill()
    out, err = started.communicate(timeout=LIMIT)
    assert started.returncode == 0, out + err
    assert_as_quiet(run, calm)
    assert any(record.provenance["taken_up"] for record in run.records())


@pytest.mark.slow
def test_rays_memory_monitor_fails_trials_with_an_advice_and_the_same_command_finishes(run, quiet):
    started = run.start(RAY_memory_usage_threshold="0.01", RAY_memory_monitor_refresh_ms="100")
    out, err = started.communicate(timeout=LIMIT)
    assert started.returncode == 1 and "Traceback" not in err, out + err
    failed = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 and all("try --checkpointing" in line for line in failed), out
    assert {record.status for record in run.records()} == {Status.FAILED}
    run.finish()
    assert_as_quiet(run, quiet)


FULL = '''
"""Put first on the path of a run's processes: the disk is full for every record, and for every second checkpoint."""
import errno, os

real = os.fsync

def fsync(handle):
    path = os.readlink(f"/proc/self/fd/{getattr(handle, 'fileno', lambda: handle)()}")
    if os.environ["FULL_FOR"] in path:
        if "COUNT_IN" in os.environ:
            with open(os.environ["COUNT_IN"], "a") as file:
                file.write(path + "\\n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real(handle)

os.fsync = fsync
'''


@pytest.mark.slow
@pytest.mark.parametrize("what", ["/trials/", "/checkpoints/", "/report/"])
def test_a_disk_that_is_full_for_records_is_told_and_the_same_command_finishes(run, quiet, tmp_path, what):
    (tmp_path / "sitecustomize.py").write_text(FULL)
    started = run.start(first_path=str(tmp_path), FULL_FOR=what)
    out, err = started.communicate(timeout=LIMIT)
    assert "Traceback" not in err, out + err
    if what == "/checkpoints/":
        assert started.returncode == 0 and "no checkpoint at step 10" in out and "No space left" in out, out + err
    else:
        assert started.returncode == 1 and "the disk is full; make room" in err, out + err
        assert not [path for path in run.folder.rglob("*.tmp")]
        assert "2 of 2" in run.finish()
    assert_as_quiet(run, quiet)


@pytest.mark.slow
def test_what_fails_each_time_with_two_workers_is_trained_three_times_and_no_more(run, tmp_path):
    """Ray Train and Tune would both try again; here no record can be written, and each training tries to write one."""
    (tmp_path / "sitecustomize.py").write_text(FULL)
    count = tmp_path / "count"
    more = {"FULL_FOR": "/trials/", "COUNT_IN": str(count)}
    started = run.start("--workers-per-trial", "2", "--checkpoint-every", "never", first_path=str(tmp_path), **more)
    out, err = started.communicate(timeout=LIMIT)
    assert started.returncode == 1 and "the disk is full; make room" in err, out + err
    assert len(count.read_text().splitlines()) == 3 + 2  # and then the worker's and the driver's word that it failed
    assert not left_behind(run.folder)


@pytest.mark.slow
def test_a_short_soak_ends_as_a_quiet_run(tmp_path):
    found = soak(tmp_path, trials=6, kills=2, every=6.0, steps=60, seed=3)
    assert found["good"], found
