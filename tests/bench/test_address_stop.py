"""SIGTERM and Ctrl-C where the cluster runs the study and this process only listens: by `ray://`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.tuning.samples import read
from tests.bench.cluster_room import Cluster
from tests.bench.door import flags_of
from tests.bench.test_run import records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZES = flags_of("model.image=16,16,16", "model.width=16", "model.depth=2", "model.heads=2")
HARD = 280


@pytest.fixture
def head(bare: Cluster) -> Cluster:
    bare.begin_first()
    return bare


def begin(head: Cluster, data: Path, command: str, run: str, *more: str, grace: str) -> subprocess.Popen[str]:
    fixed = ["--backbones", "none", "--data", str(data), "--out", run, *SIZES, "--steps", "1500"]
    return head.start_bench(command, *fixed, "--address", f"ray://127.0.0.2:{head.client}", *more, BENCH_GRACE=grace)


def ended(started: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = started.communicate(timeout=HARD)
    assert "Traceback" not in err, out + err
    return started.returncode, out + err


def workers(head: Cluster) -> list[psutil.Process]:
    """The processes of Tune's function on the cluster."""
    found = []
    for process in psutil.Process(head.started[0].pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ImplicitFunc" in " ".join(process.cmdline()):
                found.append(process)
    return found


def training(head: Cluster, run: Path) -> list[psutil.Process]:
    """Those that a trial's live file names; one that was stopped leaves its own, which is no sign of life."""
    paths = [path for path in (run / "live").rglob("*.json") if path.name != "driver.json"]
    named = {json.loads(path.read_bytes())["pid"] for path in paths}
    return [process for process in workers(head) if process.pid in named]


def wait_for(what: Callable[[], object], started: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HARD
    while not what():
        assert started.poll() is None and time.monotonic() < deadline, started.communicate()
        time.sleep(0.1)


@contextlib.contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def test_sigterm_has_its_grace_and_no_more_and_ctrl_c_ends_at_once(head, tiny_msd):
    run = head.folder / "run"
    line = ("run", "run", "--seeds", "0,1", "--checkpoint-every", "1h")

    started = begin(head, tiny_msd, *line, grace="100")
    wait_for(lambda: training(head, run), started)
    (worker,) = training(head, run)
    os.kill(started.pid, signal.SIGTERM)
    code, told = ended(started)
    assert code == 143 and "stopped by SIGTERM; trials that ran have a checkpoint, the same command goes on" in told
    assert "failed" not in told and list((run / "checkpoints").rglob("step-*")) and not records(run)
    assert not (run / ".stop").exists() and not psutil.wait_procs([worker], timeout=30)[1]

    started = begin(head, tiny_msd, *line, grace="2")
    wait_for(lambda: training(head, run), started)
    (worker,) = training(head, run)
    with frozen(worker):  # it makes no checkpoint in its time
        os.kill(started.pid, signal.SIGTERM)
        code, told = ended(started)
    assert code == 143 and "stopped by SIGTERM" in told and not psutil.wait_procs([worker], timeout=60)[1]

    started = begin(head, tiny_msd, *line, grace="100")
    wait_for(lambda: workers(head), started)
    os.kill(started.pid, signal.SIGINT)
    code, told = ended(started)
    assert code == 130 and "stopped; complete trials are kept" in told and head.alive()

    axes = ("--tasks", "Task99_Tiny", "--search", "lr=1e-3..1e-2", "--samples", "2", "--method", "random")
    started = begin(head, tiny_msd, "tune", "search", *axes, grace="100")
    wait_for(lambda: (head.folder / "search").exists() and read(head.folder / "search"), started)
    os.kill(started.pid, signal.SIGTERM)
    code, told = ended(started)
    assert code == 143 and "stopped by SIGTERM; what was searched is kept" in told and head.alive()
