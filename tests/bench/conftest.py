"""The doors that users come in by, and a run that is trained once for several files."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import door
from tests.bench.cluster_room import Cluster, free_ports

if TYPE_CHECKING:
    from bench.trial import TrialJob
    from results.record import TrialResult

Door = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Door:
    """`python -m bench …` within this process and in tmp_path: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        done = door.bench(*map(str, arguments))
        return done.returncode, done.stdout, done.stderr

    return call


@pytest.fixture
def bare() -> Iterator[Cluster]:
    """A cluster that nobody has begun yet. Ray's sockets want a short path."""
    folder = Path("/tmp") / f"bench-cluster-{secrets.token_hex(4)}"
    folder.mkdir()
    cluster = Cluster(folder, *free_ports(3), started=[])
    try:
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(bare: Cluster) -> Cluster:
    bare.begin_first()
    bare.begin_second()
    return bare


@pytest.fixture
def tune(bench: Door, monkeypatch: pytest.MonkeyPatch) -> Door:
    """`bench tune …` of a small model, the baseline unless told otherwise, its samples one by one in this process."""
    from tests.bench.tune_room import SMALL_FLAGS, TASK, one_by_one

    monkeypatch.setattr("bench.tuning.tune._on_ray", lambda *_: one_by_one)

    def call(*arguments: object, backbone: object = "none") -> tuple[int, str, str]:
        return bench("tune", "--backbones", backbone, "--tasks", TASK, *SMALL_FLAGS, *arguments)

    return call


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialJob, TrialResult]:
    """The run folder, the job and the record of `predict_room.one_trained`. Tests that change it take a copy."""
    from tests.bench.predict_room import one_trained

    return one_trained(tmp_path_factory.mktemp("predict"))
