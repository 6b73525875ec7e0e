"""`bench tune` on a cluster of two nodes: by `--address`, by `ray://`, and when it goes down."""

from __future__ import annotations

import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.tuning.samples import Sample, State, read
from tests.bench.cluster_room import FIRST, Cluster

TASK = "Task99_Tiny"
SIZES = ("model.image=16,16,16", "model.width=16", "model.depth=2", "model.heads=2", "train.warmup=0")
HARD = 280

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def search(data: Path, *more: str, steps: int = 36) -> list[str]:
    sizes = [part for size in SIZES for part in ("--set", size)]
    fixed = ["--backbones", "none", "--data", str(data), "--tasks", TASK, "--out", "search"]
    return ["tune", *fixed, *sizes, "--steps", str(steps), *more]


def samples_of(cluster: Cluster) -> list[Sample]:
    return read(cluster.folder / "search")


def wait_until(there: Callable[[], object], started: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HARD
    while not there():
        assert started.poll() is None and time.monotonic() < deadline, started.communicate()
        time.sleep(0.1)


def test_asha_searches_on_both_nodes_and_goes_on_from_elsewhere(cluster, tiny_msd):
    axes = ["--search", "lr=1e-9,1e-8,1e-7,1e-6,3e-3,1e-2"]
    address = f"{FIRST}:{cluster.port}"
    done = cluster.bench(*search(tiny_msd, *axes, "--samples", "4", "--address", address))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    for words in (f"joining Ray at {address}", "node first (127.0.0.2): 1 CPU", "node second (127.0.0.3): 1 CPU"):
        assert words in done.stdout, done.stdout
    before = samples_of(cluster)
    assert len(before) == 4 and {sample.state for sample in before} <= {State.COMPLETE, State.STOPPED}
    assert cluster.alive()

    far = f"ray://127.0.0.2:{cluster.client}"
    done = cluster.bench(*search(tiny_msd, *axes, "--samples", "6", "--address", far))
    assert done.returncode == 0 and "6 samples by asha, 2 to run" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and samples_of(cluster)[:4] == before
    assert len(samples_of(cluster)) == 6 and cluster.alive()
    assert tomllib.loads((cluster.folder / "search" / "tuned.toml").read_text())["train"]["lr"] >= 1e-6


def test_the_head_dies_and_the_same_command_goes_on_with_another(cluster, tiny_msd):
    line = search(tiny_msd, "--search", "lr=1e-4..1e-2", "--samples", "6", "--method", "random", steps=60)
    line += ["--address", f"{FIRST}:{cluster.port}"]
    started = cluster.start_bench(*line)
    folder = cluster.folder / "search"
    wait_until(lambda: folder.exists() and State.COMPLETE in {sample.state for sample in read(folder)}, started)
    cluster.kill(cluster.started[0])
    out, err = started.communicate(timeout=HARD)
    assert started.returncode == 1 and "Traceback" not in err, out + err
    # It is this process's own node or, as nodes on one machine are all near, the other one.
    assert "Ray's raylet died; " in out or "the head of the cluster is gone; " in out, out + err
    assert "; what was searched is kept, and once Ray can be had again the same command goes on from here" in out, out
    kept = [sample for sample in read(folder) if sample.state is State.COMPLETE]

    cluster.end()
    cluster.begin_first()
    done = cluster.bench(*line)
    assert done.returncode == 0 and f"6 samples by random, {6 - len(kept)} to run" in done.stdout, done.stdout
    assert [sample.state for sample in read(folder)] == [State.COMPLETE] * 6
    assert [sample for sample in read(folder) if sample in kept] == kept
