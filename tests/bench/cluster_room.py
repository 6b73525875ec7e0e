"""A Ray cluster of two nodes on one machine, begun as a user begins one: by examples/cluster/by_hand.sh."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples" / "cluster"
BIN = Path(sys.executable).parent
#: Ray takes 127.0.0.1 for the address of the network card; these are of this machine alone as well, and differ.
FIRST, SECOND = "127.0.0.2", "127.0.0.3"
#: Of a node beside others on a machine: whichever ports are free, for workers too, and 100 MB for objects.
_PORTS = ("--dashboard-agent-listen-port", "--metrics-export-port", "--min-worker-port", "--max-worker-port")
BESIDE = [*(part for name in _PORTS for part in (name, "0")), "--object-store-memory", "100000000"]


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

    def begin_first(self) -> None:
        """The head, and wait until it stands.

        If it does not, begin it once more with other ports: between their choice and their use others may take one.
        """
        self.begin("head", FIRST, "--node-name", "first")
        if not (missing := self._missing(1)):
            return
        warnings.warn(f"the head of the test's cluster is begun again with other ports; {missing}", stacklevel=2)
        self.end()
        self.port, self.dashboard, self.client = free_ports(3)
        self.begin("head", FIRST, "--node-name", "first")
        self.wait_for(1)

    def begin_second(self) -> None:
        self.begin("node", SECOND, FIRST, "--node-name", "second")
        self.wait_for(2)

    def wait_for(self, nodes: int) -> None:
        if missing := self._missing(nodes):
            pytest.fail(missing)

    def _missing(self, nodes: int) -> str:
        """Empty once so many nodes are there; else, after two minutes or as one ends by itself, what is told of it."""
        ask = "import ray, sys; ray.init(sys.argv[1], logging_level=50, log_to_driver=False); "
        ask += "print(sum(node['Alive'] for node in ray.nodes()))"
        deadline, out = time.monotonic() + 120, ""
        while time.monotonic() < deadline and self.alive():
            line = [sys.executable, "-c", ask, f"{FIRST}:{self.port}"]
            done = subprocess.run(line, env=self.env, capture_output=True, text=True, timeout=120, check=False)
            out = done.stdout + done.stderr
            if done.stdout.split()[-1:] == [str(nodes)]:
                return ""
            time.sleep(1)
        logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
        return f"no cluster of {nodes} nodes:\n{out}\n{logs}"

    def alive(self) -> bool:
        return all(process.poll() is None for process in self.started)

    def bench(self, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "bench", *arguments], timeout)

    def run(self, line: list[str], timeout: float = 400) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, env=self.env, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.folder
        )

    def start_bench(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "bench", *arguments]
        return subprocess.Popen(
            line, env=self.env | env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder
        )

    def end(self) -> None:
        """At once: told gently, a node that has work lets half a minute pass."""
        for process in self.started:
            self.kill(process)
        self.started.clear()

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """A node with all its processes, as if its plug were pulled."""
        for process in (*_family(node.pid), node):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait(30)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
