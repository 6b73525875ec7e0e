"""A study on a cluster of two nodes, both on this machine: by `--address`, by `ray job submit`, by `ray://`."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.bench.test_run import REPOSITORY, SMALL, records

EXAMPLES = REPOSITORY / "examples" / "cluster"
BIN = Path(sys.executable).parent
#: Ray takes 127.0.0.1 for the address of the network card; these are of this machine alone as well, and differ.
FIRST, SECOND = "127.0.0.2", "127.0.0.3"
#: Of a second node on the same machine: ports that a first one has already, and 256 MB for objects.
BESIDE = ["--dashboard-agent-listen-port", "0", "--metrics-export-port", "0", "--object-store-memory", "100000000"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass
class Cluster:
    """Two nodes with one core each, named `first` and `second`, begun by examples/cluster/by_hand.sh."""

    folder: Path
    port: int
    dashboard: int
    client: int
    started: list[subprocess.Popen[bytes]]

    @property
    def env(self) -> dict[str, str]:
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "BENCH_CACHE": str(self.folder / "cache"),
            "PYTHONPATH": str(REPOSITORY),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(self.port),
            "DASHBOARD_PORT": str(self.dashboard),
            "DASHBOARD": f"http://127.0.0.1:{self.dashboard}",
            "CLIENT_PORT": str(self.client),
            "TEMP": str(self.folder / "ray"),
            "PYTHON": sys.executable,
        }
        return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | own

    def begin(self, *arguments: str, before: tuple[str, ...] = ()) -> None:
        line = [*before, "bash", str(EXAMPLES / "by_hand.sh"), *arguments, "--num-cpus", "1", *BESIDE]
        log = (self.folder / f"{len(self.started)}.log").open("wb")
        self.started.append(
            subprocess.Popen(line, env=self.env, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        )

    def wait_for(self, nodes: int) -> None:
        ask = "import ray, sys; ray.init(sys.argv[1], logging_level=50, log_to_driver=False); "
        ask += "print(sum(node['Alive'] for node in ray.nodes()))"
        deadline, out = time.monotonic() + 120, ""
        while time.monotonic() < deadline:
            line = [sys.executable, "-c", ask, f"{FIRST}:{self.port}"]
            done = subprocess.run(line, env=self.env, capture_output=True, text=True, timeout=120, check=False)
            out = done.stdout + done.stderr
            if done.stdout.split()[-1:] == [str(nodes)]:
                return
            time.sleep(1)
        logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
        pytest.fail(f"no cluster of {nodes} nodes:\n{out}\n{logs}")

    def alive(self) -> bool:
        return all(process.poll() is None for process in self.started)

    def bench(self, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "bench", *arguments], timeout)

    def run(self, line: list[str], timeout: float = 400) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, env=self.env, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.folder
        )

    def end(self) -> None:
        """At once: told gently, a node that has work lets half a minute pass."""
        family = [child for process in self.started for child in (*_family(process.pid), process)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.started:
            process.wait(30)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def empty(tmp_path_factory) -> Iterator[Cluster]:
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
def cluster(empty: Cluster) -> Cluster:
    empty.begin("head", FIRST, "--node-name", "first")
    empty.wait_for(1)
    empty.begin("node", SECOND, FIRST, "--node-name", "second")
    empty.wait_for(2)
    return empty


def study(data: Path, run: Path, *more: str) -> list[str]:
    return ["--backbones", "none", "--data", str(data), "--out", str(run), *SMALL, *more]


def test_a_study_runs_on_both_nodes_and_leaves_the_cluster_standing(cluster, tiny_msd):
    run = cluster.folder / "run"
    address = f"{FIRST}:{cluster.port}"
    done = cluster.bench("run", *study(tiny_msd, run, "--seeds", "0,1,2"), "--address", address)
    assert done.returncode == 0 and "3 of 3 trials complete" in done.stdout, done.stdout + done.stderr
    assert f"joining Ray at {address}" in done.stdout and "node first (127.0.0.2): 1 CPU" in done.stdout
    assert "node second (127.0.0.3): 1 CPU" in done.stdout
    assert cluster.alive()

    more = cluster.bench("run", *study(tiny_msd, run, "--seeds", "0,1,2,3"), "--address", "auto")
    assert more.returncode == 0 and "4 trials, 1 to run" in more.stdout, more.stdout + more.stderr
    two = ["--workers-per-trial", "2", "--seeds", "0"]
    both = cluster.bench("run", *study(tiny_msd, cluster.folder / "two", *two), "--address", address)
    assert both.returncode == 0 and "1 of 1 trials complete" in both.stdout, both.stdout + both.stderr
    many = cluster.bench("run", *study(tiny_msd, cluster.folder / "no"), "--address", address, "--cpus-per-worker", "2")
    assert many.returncode == 2 and "there is room for 0 (nodes: 1 CPU and 0 GPU, 1 CPU and 0 GPU)" in many.stderr
    assert cluster.alive()


def test_the_driver_may_be_far_away_or_a_job(cluster, tiny_msd):
    run = cluster.folder / "far"
    far = cluster.bench(
        "run", *study(tiny_msd, run, "--seeds", "0,1"), "--address", f"ray://127.0.0.2:{cluster.client}"
    )
    assert far.returncode == 0 and "2 of 2 trials complete" in far.stdout, far.stdout + far.stderr
    assert len(records(run)) == 2 and cluster.alive()

    run = cluster.folder / "submitted"
    sent = cluster.run(["bash", str(EXAMPLES / "submit.sh"), *study(tiny_msd, run, "--seeds", "0,1")])
    assert sent.returncode == 0 and "2 of 2 trials complete" in sent.stdout + sent.stderr, sent.stdout + sent.stderr
    assert len(records(run)) == 2 and cluster.alive()


def hides(folder: Path) -> tuple[str, ...]:
    """A prefix by which a command sees this folder empty, and all else as it is; skips where that is not allowed."""
    line = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh")
    if not shutil.which("unshare") or subprocess.run([*line, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a mount namespace may not be made here")
    return line


def test_a_node_without_the_data_is_found_before_the_first_trial(empty, tiny_msd):
    data = empty.folder / "data"
    shutil.copytree(tiny_msd, data)
    prefix = hides(data)
    empty.begin("head", FIRST, "--node-name", "first")
    empty.wait_for(1)
    empty.begin("node", SECOND, FIRST, "--node-name", "second", before=prefix)
    empty.wait_for(2)
    run = empty.folder / "run"
    done = empty.bench("run", *study(data, run), "--address", f"{FIRST}:{empty.port}")
    assert done.returncode == 2 and not records(run), done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "node second (127.0.0.3)" in errors[0] and "12 of 12 data files" in errors[0], errors
    assert "Traceback" not in done.stderr and empty.alive()


def test_another_token_is_turned_away_with_words(empty, tiny_msd):
    empty.begin("head", FIRST, "--node-name", "first")
    empty.wait_for(1)
    env = {k: v for k, v in empty.env.items() if k != "RAY_AUTH_TOKEN_PATH"} | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    line = [sys.executable, "-m", "bench", "run", *study(tiny_msd, empty.folder / "run")]
    line += ["--address", f"{FIRST}:{empty.port}"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=300, check=False, cwd=empty.folder)
    assert done.returncode == 2 and "RAY_AUTH_TOKEN" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


SRUN = f"""#!/usr/bin/env bash
# Stands for Slurm's: runs the command here, as on the node that it names. It must be told the cores, as since 22.05.
[[ " $* " == *" --cpus-per-task=$SLURM_CPUS_PER_TASK "* ]] || {{ echo "srun gives one core"; exit 1; }}
while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && node=${{1#*=}}; shift; done
case $node in first) ip={FIRST} ;; second) ip={SECOND} ;; esac
[[ $1 == hostname ]] && exec echo $ip
[[ $* == *--head* ]] || set -- "$@" --node-ip-address $ip
exec "$@" --node-name $node {" ".join(BESIDE)}
"""


def test_the_slurm_script_with_a_stand_in_for_srun(empty, tiny_msd):
    tools = empty.folder / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\nprintf 'first\\nsecond\\n'\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "first,second", "SLURM_JOB_ID": str(empty.port), "SLURM_CPUS_PER_TASK": "1"}
    env = {k: v for k, v in empty.env.items() if not k.startswith("RAY_AUTH")} | slurm
    env |= {"PATH": f"{tools}{os.pathsep}{env['PATH']}", "TMPDIR": str(empty.folder)}
    run = empty.folder / "run"
    line = ["bash", str(EXAMPLES / "study.sbatch"), *study(tiny_msd, run, "--seeds", "0,1")]
    with (empty.folder / "out.log").open("wb") as log:
        going = subprocess.Popen(line, env=env, stdout=log, stderr=log, cwd=empty.folder, start_new_session=True)
        empty.started.append(going)
        code = going.wait(400)
    told = (empty.folder / "out.log").read_text()
    assert code == 0 and "2 of 2 trials complete" in told and "node second (127.0.0.3): 1 CPU" in told, told
