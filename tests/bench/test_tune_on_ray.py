"""`bench tune` on Ray, from the command to the winner's study: early stopping ends, and so does all else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.tuning.samples import ENDED, Sample, State, read
from tests.backbones import tiny
from tests.bench.door import flags_of

REPOSITORY = Path(__file__).parents[2]
TASK = "Task99_Tiny"
SMALL = [
    "--steps",
    "36",
    *flags_of("model.image=16,16,16", "model.width=16", "model.depth=2", "model.heads=2", "train.warmup=0"),
]
#: A search that takes longer than this hangs.
HARD = 280


def begin(data: Path, folder: Path, *arguments: str, backbone: str = "none") -> subprocess.Popen[str]:
    fixed = ["--backbones", backbone, "--data", str(data), "--tasks", TASK, "--out", "search"]
    line = [sys.executable, "-m", "bench", "tune", *fixed, *SMALL, "--to", "tuned.toml", *arguments]
    (folder / "temp").mkdir(exist_ok=True)
    temp = {"TMPDIR": str(folder / "temp"), "RAY_TMPDIR": tempfile.gettempdir()}  # Ray's sockets want a short path
    env = os.environ | temp | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        line, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(started: subprocess.Popen[str], folder: Path, family: list[psutil.Process]) -> tuple[int, str, str]:
    """Its end, within the hard limit, with none of its processes or of Tune's folders left."""
    family += psutil.Process(started.pid).children(recursive=True)
    try:
        out, err = started.communicate(timeout=HARD)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        raise
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, [process.cmdline() for process in alive]
    assert "Traceback" not in err, err
    assert not list((folder / "temp").glob("bench-*"))
    return started.returncode, out, err


def ended(samples: list[Sample]) -> dict[int, Sample]:
    return {sample.number: sample for sample in samples if sample.state in ENDED}


def wait_until(started: subprocess.Popen[str], run: Path, there: Callable[[list[Sample]], bool]) -> None:
    deadline = time.monotonic() + HARD
    while not (run.exists() and there(read(run))):
        assert started.poll() is None and time.monotonic() < deadline, started.communicate()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(3 * HARD)
def test_asha_stops_weak_samples_is_interrupted_goes_on_and_its_winner_runs(tiny_msd, tmp_path):
    tiny.reference_model(tiny.spec("gpt2")).save_pretrained(tmp_path / "gpt")
    axes = ["--search", "lr=1e-9,1e-8,1e-7,1e-6,3e-3,1e-2", "--samples", "6", "--method", "asha"]
    run = tmp_path / "search"
    started = begin(tiny_msd, tmp_path, *axes, backbone="gpt")
    wait_until(started, run, lambda samples: any(sample.state is State.COMPLETE for sample in samples))
    family = psutil.Process(started.pid).children(recursive=True)
    os.kill(started.pid, signal.SIGINT)
    code, out, err = finish(started, tmp_path, family)
    assert code == 130 and "stopped; what was searched is kept" in out, out + err
    kept = {sample.number: sample for sample in read(run) if sample.state is not State.RUNNING}
    assert kept and not (tmp_path / "tuned.toml").exists()

    code, out, err = finish(begin(tiny_msd, tmp_path, *axes, backbone="gpt"), tmp_path, [])
    assert code == 0, out + err
    samples = {sample.number: sample for sample in read(run)}
    assert len(samples) == 6 and kept.items() <= samples.items()
    states = [sample.state for sample in samples.values()]
    assert State.STOPPED in states and set(states) == {State.STOPPED, State.COMPLETE}, out
    assert all(len(s.rungs) == 3 for s in samples.values() if s.state is State.COMPLETE)
    assert all(1 <= len(s.rungs) < 3 for s in samples.values() if s.state is State.STOPPED)

    body = tomllib.loads((tmp_path / "tuned.toml").read_text())
    assert body["train"]["lr"] in (3e-3, 1e-2)
    line = [sys.executable, "-m", "bench", "run", "--study", "tuned.toml"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=HARD, check=False)
    assert done.returncode == 0 and "3 of 3 trials complete; report: runs/tuned" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(2 * HARD)
def test_a_sample_whose_process_is_killed_does_not_end_a_random_search(tiny_msd, tmp_path):
    axes = [
        "--search",
        "lr=1e-3..1e-2",
        "--samples",
        "4",
        "--method",
        "random",
        "--rungs",
        "3",
        "--max-concurrent",
        "1",
    ]
    started = begin(tiny_msd, tmp_path, *axes)
    wait_until(started, tmp_path / "search", lambda samples: bool(samples) and bool(samples[0].rungs))
    family = psutil.Process(started.pid).children(recursive=True)
    workers = [process for process in family if "ImplicitFunc" in " ".join(process.cmdline())]
    assert len(workers) == 1, [process.cmdline() for process in family]
    workers[0].kill()
    code, out, err = finish(started, tmp_path, family)
    assert code == 0, out + err
    (line,) = [line for line in out.splitlines() if line.startswith("failed: sample ")]
    assert line.endswith("its process died: it was killed, or its machine is gone"), out
    states = [sample.state for sample in read(tmp_path / "search")]
    assert sorted(states) == [State.COMPLETE] * 3 + [State.FAILED]
    assert "3 complete" in out and (tmp_path / "tuned.toml").exists()
    kept = [sample for sample in read(tmp_path / "search") if sample.state is State.COMPLETE]
    code, out, err = finish(begin(tiny_msd, tmp_path, *axes), tmp_path, [])
    assert code == 0 and "4 samples by random, 1 to run" in out and "4 samples: 4 complete" in out, out + err
    assert [sample for sample in read(tmp_path / "search") if sample in kept] == kept


@pytest.mark.slow
@pytest.mark.timeout(3 * HARD)
def test_a_search_whose_raylet_or_driver_is_killed_keeps_what_ended_and_runs_the_rest_once(tiny_msd, tmp_path):
    axes = ["--search", "lr=1e-9,1e-8,1e-7,1e-6,3e-3,1e-2", "--samples", "6", "--method", "asha"]
    run = tmp_path / "search"
    started = begin(tiny_msd, tmp_path, *axes)
    wait_until(started, run, lambda samples: len(ended(samples)) >= 1)
    before = psutil.Process(started.pid).children(recursive=True)
    (raylet,) = [process for process in before if process.name() == "raylet"]
    first = ended(read(run))
    raylet.kill()
    wait_until(started, run, lambda samples: len(ended(samples)) > len(first))
    family = before + psutil.Process(started.pid).children(recursive=True)
    started.kill()  # the driver, which has begun itself again under its own pid
    out, err = started.communicate(timeout=HARD)
    assert "the command begins again" in out and "Traceback" not in err, out + err
    second = ended(read(run))
    assert not psutil.wait_procs(family, timeout=100)[1]  # Ray's agents look for their raylet's server that long

    code, out, err = finish(begin(tiny_msd, tmp_path, *axes), tmp_path, [])
    assert code == 0 and f"6 samples by asha, {6 - len(second)} to run" in out, out + err
    samples = {sample.number: sample for sample in read(run)}
    assert sorted(samples) == [1, 2, 3, 4, 5, 6] and {s.state for s in samples.values()} <= set(ENDED)
    assert all(samples[number] == sample for number, sample in (first | second).items())
    assert all(len({rung.share for rung in s.rungs}) == len(s.rungs) <= 3 for s in samples.values())
    assert (tmp_path / "tuned.toml").exists()


@pytest.mark.slow
def test_sigterm_ends_a_search_at_once_with_words(tiny_msd, tmp_path):
    started = begin(tiny_msd, tmp_path, "--search", "lr=1e-3..1e-2", "--samples", "4", "--method", "random")
    wait_until(started, tmp_path / "search", bool)
    family = psutil.Process(started.pid).children(recursive=True)
    os.kill(started.pid, signal.SIGTERM)
    code, out, err = finish(started, tmp_path, family)
    assert code == 143 and "stopped by SIGTERM; what was searched is kept" in out, out + err


@pytest.mark.slow
def test_optuna_chooses_the_samples(tiny_msd, tmp_path):
    pytest.importorskip("optuna")
    axes = ["--search", "lr=1e-4..1e-2", "--search", "attention=global,hybrid", "--samples", "3", "--method", "optuna"]
    code, out, err = finish(begin(tiny_msd, tmp_path, *axes), tmp_path, [])
    assert code == 0, out + err
    samples = read(tmp_path / "search")
    assert [sample.state for sample in samples] == [State.COMPLETE] * 3
    assert all(1e-4 <= sample.values["lr"] <= 1e-2 for sample in samples)
    code, out, err = finish(begin(tiny_msd, tmp_path, *axes[:-3], "4", *axes[-2:]), tmp_path, [])
    assert code == 0 and "4 samples by optuna, 1 to run" in out and read(tmp_path / "search")[:3] == samples, out + err
