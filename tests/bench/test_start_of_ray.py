"""When Ray starts: once a trial surely is to run, beside the reading of records; never for bad input or for nothing."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bench import estimate, launch
from bench.launch import jobs as on_tune
from bench.launch import switches
from bench.launch.session import Dashboard
from bench.study import StudyError
from tests.bench.test_run import REPOSITORY, command

FLAGS = ("--weights", "random", "--backbones", "none", "--steps", 4, "--out", "run")


class Started:
    """In the place of Ray: what it was asked for, and what became of its trials."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts = list[threading.Thread]()
        self.stops, self.handed = 0, list[str]()
        self.error: BaseException | None = None
        self.meanwhile = lambda: None
        monkeypatch.setattr(launch, "start", self.start)
        monkeypatch.setattr(launch, "stop", self.stop)
        monkeypatch.setattr(on_tune, "run", self.run)

    def start(self, **_: object) -> Dashboard:
        self.starts.append(threading.current_thread())
        self.meanwhile()
        if self.error:
            raise self.error
        return Dashboard("http://127.0.0.1:1", "secret", "")

    def stop(self) -> None:
        self.stops += 1

    def run(self, jobs, progress, *_: object) -> None:
        """Each trial fails at once."""
        from bench.trial import record_failure

        for job in jobs:
            self.handed.append(job.spec.key)
            record_failure(job, "as told")


@pytest.fixture
def ray(monkeypatch) -> Started:
    return Started(monkeypatch)


@pytest.fixture
def run(bench, ray, tiny_msd):
    """`bench run` with a failed record of seed 0 in its folder."""

    def call(*arguments: object) -> tuple[int, str, str]:
        return bench("run", "--data", tiny_msd, *FLAGS, *arguments)

    assert call()[0] == 1
    ray.starts.clear()
    ray.handed.clear()
    return call


def records() -> list[Path]:
    return sorted(Path("run/trials").rglob("*.json"))


def complete() -> None:
    """Make the failed records complete ones; without cases they are no good to a report, but nobody reads them here."""
    for path in records():
        path.write_text(path.read_text().replace('"status": "failed"', '"status": "complete"'))


def test_ray_starts_in_the_main_thread_while_records_are_read(run, ray, monkeypatch):
    starting, reading = threading.Event(), threading.Event()
    of_run = estimate.Past.of_run

    def read(folder: Path) -> estimate.Past:
        reading.set()
        assert starting.wait(30), "the records were read before Ray began to start"
        return of_run(folder)

    def start() -> None:
        starting.set()
        assert reading.wait(30), "Ray started before the records were read"

    ray.meanwhile = start
    monkeypatch.setattr(estimate.Past, "of_run", read)
    code, out, err = run("--seeds", "0,1")
    assert code == 1, err
    assert ray.starts == [threading.main_thread()] and len(ray.handed) == 2
    words = ["2 trials, 2 to run", "starting Ray …", "Ray dashboard: "]
    assert sorted(words, key=out.index) == words


def test_where_every_trial_has_a_record_they_are_read_first(run, ray, monkeypatch):
    ray.meanwhile = lambda: monkeypatch.setattr(estimate.Past, "of_run", lambda folder: pytest.fail("read again"))
    code, out, err = run()
    assert (code, len(ray.starts), len(ray.handed)) == (1, 1, 1), err
    assert out.index("1 trials, 1 to run") < out.index("starting Ray …") < out.index("Ray dashboard: ")


def test_nothing_to_run_starts_nothing(run, ray, monkeypatch):
    complete()
    monkeypatch.setattr("bench.run.write_outputs", lambda run: run / "report" / "index.html")
    code, out, err = run()
    assert code == 0, err
    assert "nothing to run: 1 of 1 trials are complete" in out and "Ray" not in out
    assert ray.starts == []


@pytest.mark.parametrize("more", [("--steps", 5), ("--seeds", "0,0"), ("--tasks", "Task77_None"), ("--log", "x")])
def test_bad_input_starts_nothing(run, ray, more):
    code, out, err = run("--seeds", "0,1", *more)
    assert code == 2 and err and ray.starts == []
    assert "Ray" not in out + err and "trials" not in out


def test_a_damaged_record_is_all_that_is_told_and_what_was_begun_is_stopped(run, ray):
    records()[0].write_text("{")
    ray.stops = 0
    code, out, err = run("--seeds", "0,1")
    assert (code, out) == (2, "") and err.splitlines()[-1].startswith("error: cannot read record ")
    assert len(ray.starts) == ray.stops == 1 and ray.handed == []


def test_a_start_that_fails_is_told_after_what_is_to_run(run, ray):
    ray.error = StudyError("--address auto: no Ray cluster is found")
    code, out, err = run("--seeds", "0,1", "--address", "auto")
    assert code == 2 and err.splitlines()[-1] == "error: --address auto: no Ray cluster is found"
    assert out.index("2 trials, 2 to run") < out.index("joining Ray at auto …") and "dashboard" not in out
    assert ray.handed == []


def test_of_two_errors_the_records_comes_first(run, ray):
    records()[0].write_text("{")
    ray.error = StudyError("--address auto: no Ray cluster is found")
    code, _, err = run("--seeds", "0,1", "--address", "auto")
    assert code == 2 and "cannot read record" in err and "no Ray cluster" not in err


def test_ctrl_c_as_ray_starts_ends_the_run_in_words(run, ray, monkeypatch):
    monkeypatch.setattr("bench.run.write_outputs", lambda run: run / "report" / "index.html")
    ray.error, ray.stops = KeyboardInterrupt(), 0
    code, out, err = run("--seeds", "0,1")
    assert code == 130, err
    assert "stopped; complete trials are kept" in out and ray.handed == [] and ray.stops == 1


def test_sigterm_as_ray_starts_ends_the_run_in_words(run, ray):
    def terminated() -> None:
        with switches.with_our_signals():
            switches.utils.set_sigterm_handler(lambda number, frame: sys.exit(number))  # as `ray.init` does
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    ray.meanwhile, ray.stops = terminated, 0
    code, out, err = run("--seeds", "0,1")
    assert code == 143, err
    assert "stopped by SIGTERM; " in out and ray.handed == [] and ray.stops == 1


@pytest.mark.parametrize(("ended", "answer"), [(1, None), (None, None)])
def test_a_dashboard_that_does_not_come_up_is_an_error_that_names_its_log(monkeypatch, ended, answer):
    process = SimpleNamespace(process=SimpleNamespace(poll=lambda: ended))
    node = SimpleNamespace(all_processes={switches.ray_constants.PROCESS_TYPE_DASHBOARD: [process]})
    monkeypatch.setattr(switches.worker, "_global_node", node)
    monkeypatch.setattr(switches.internal_kv, "_internal_kv_get", lambda key, namespace: answer)
    monkeypatch.setattr(switches, "_SECONDS", 0.1)
    with pytest.raises(RuntimeError, match=r"dashboard does not come up; /s/logs/dashboard"):
        switches.dashboard_address(Path("/s"))


def test_rays_own_functions_are_as_before_once_it_has_begun():
    places = [(switches.ray_constants, "ENABLE_RAY_CLUSTER"), (switches.parameter, "RayParams")]
    places += [(switches.utils, "get_dashboard_dependency_error"), (switches.ray.experimental, "internal_kv")]
    places += [(switches.utils, "set_sigterm_handler")]
    before, ask = [getattr(*place) for place in places], switches.internal_kv._internal_kv_get
    with pytest.raises(KeyError), switches.begun_for_us(), switches.with_our_signals():
        assert switches.internal_kv._internal_kv_get is ask  # whoever imports it meanwhile keeps it
        assert all(getattr(*place) is not one for place, one in zip(places, before, strict=True))
        raise KeyError
    assert [getattr(*place) for place in places] == before


@pytest.mark.slow
def test_bad_input_that_is_found_as_ray_starts_leaves_no_process(tiny_msd, tmp_path):
    mark = uuid.uuid4().hex
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "BENCH_TEST_MARK": mark}
    place = tmp_path / "run" / "trials" / "Task90_Tiny" / "none"
    place.mkdir(parents=True)
    (place / "0-0-abcdefabcdef.json").write_text("{")
    line = command(tiny_msd, tmp_path / "run", "--backbones", "none")
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert "error: cannot read record" in done.stderr and "Traceback" not in done.stderr
    left = [
        one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get("BENCH_TEST_MARK") == mark
    ]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert not alive, [one.cmdline() for one in alive]


def test_no_matrix_product_is_computed_beside_rays_start(run, ray, monkeypatch):
    # OpenBLAS and a fork of the main thread would wait for each other for ever.
    measured, measure = list[threading.Thread](), estimate.products_a_second.__wrapped__

    def noted() -> float:
        measured.append(threading.current_thread())
        return measure()

    monkeypatch.setattr(estimate, "products_a_second", functools.cache(noted))
    run("--seeds", "0,1")
    assert measured == [threading.main_thread()] and ray.starts
