"""Ray itself: begun on this machine, or joined; and ended, or left."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import ray
from ray._private import ray_constants

from backbones.weights import cache_dir
from bench import machine
from bench.alive import Heart
from bench.launch import storage, token
from bench.launch.cluster import Head, connect, raylets_here
from bench.launch.switches import begun_for_us, dashboard_address, with_our_signals

_OBJECT_STORE_BYTES = 256 * 1024**2  # jobs are a few kilobytes; images are read from disk by each worker

#: How often the command begun anew, in its environment, and how often it may.
_RESTARTS, _MOST_RESTARTS = "BENCH_RESTARTS", 10
#: The raylet without which nothing runs here: the one that start() began, or that of a cluster's node.
_began: list[psutil.Process] = []
_joined: list[psutil.Process] = []
#: What asks for the head of the cluster that was joined.
_asking = contextlib.ExitStack()
_SECONDS_BETWEEN_LOOKS = 3.0


class RayGone(RuntimeError):
    """Ray itself died: no trial can run before it is started again."""


@dataclass(frozen=True)
class Dashboard:
    """Where Ray's dashboard is, and what it asks for; token is empty where authentication is switched off.

    targets is the file in which Ray lists its metrics ports for Prometheus.
    """

    address: str
    token: str
    targets: str

    def words(self, private: bool) -> str:
        """A line for a person. private: it goes to a terminal, and not into a file that others may read."""
        if not self.token:
            return f"Ray dashboard: {self.address} (no token: RAY_AUTH_MODE is {os.environ.get('RAY_AUTH_MODE')!r})"
        return f"Ray dashboard: {self.address}\n  its token: {self.token if private else token.where()}"


def start(cpus: int | None = None, address: str = "", gpus: float | None = None) -> Dashboard:
    """Start Ray on this machine, listening on 127.0.0.1 alone, or join the cluster at address.

    With gpus 0 no worker sees a GPU.
    """
    if address:
        with with_our_signals():
            dashboard = Dashboard(connect(address, gpus), token.read(), "")
        _joined[:] = raylets_here()
        return dashboard
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["BENCH_CACHE"] = str(cache_dir().resolve())  # workers inherit it, and stand in another folder
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", _loopback())
    # Nobody takes this machine away with notice; the process that would look for it takes time from the workers.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    token.ensure()
    with begun_for_us(), with_our_signals():
        context: Any = ray.init(
            address="local",  # RAY_ADDRESS may name a cluster that nobody asked for
            num_cpus=cpus or machine.cores(),
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_OBJECT_STORE_BYTES,
        )
    _began[:] = [child for child in psutil.Process().children() if child.name() == "raylet"]
    session = Path(context.address_info["session_dir"])
    targets = session / ray_constants.PROMETHEUS_SERVICE_DISCOVERY_FILE
    return Dashboard(f"http://{dashboard_address(session)}", token.read(), str(targets))


def is_up() -> bool:
    """Whether the raylet of this node lives: without it nothing runs, and Ray soon ends a process that began it."""
    try:
        return all(raylet.is_running() and raylet.status() != psutil.STATUS_ZOMBIE for raylet in (*_began, *_joined))
    except psutil.NoSuchProcess:
        return False


def on_lost_head(act: Callable[[], None]) -> None:
    """Call act, from a thread of its own, once the head of a cluster that this process is a node of is gone.

    The main thread may then stand in a call of Ray's that never returns.
    """
    if _joined:
        head = Head(ray.get_runtime_context().gcs_address)
        _asking.enter_context(Heart(lambda: None if head.lives() else act(), _SECONDS_BETWEEN_LOOKS))


def may_begin_anew() -> bool:
    """Whether the command may run itself again: Ray was begun by it, and it has not done so too often."""
    return bool(_began) and int(os.environ.get(_RESTARTS, 0)) < _MOST_RESTARTS


def begin_anew() -> NoReturn:
    """Kill what start() began and run this process's own command again in its place.

    Ray cannot be shut down without the raylet that it began: it ends the whole process as it tries.
    """
    done = int(os.environ.get(_RESTARTS, 0))
    family = psutil.Process().children(recursive=True)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)  # or the dead stay our children, and would be taken for new ones
    storage.clear()
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, os.environ | {_RESTARTS: str(done + 1)})


def leave(code: int) -> NoReturn:
    """End this process at once. Ray's own end would wait for what is gone, and then end it without a word of ours."""
    try:
        storage.clear()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # this may be any thread, while the main one waits for what never comes
        os._exit(code)


def stop() -> None:
    """End every process that start() began; a cluster that was joined is left standing."""
    _began.clear()
    _joined.clear()
    _asking.close()
    ray.shutdown()
    storage.clear()


def _loopback() -> str:
    """The name of the network interface that is 127.0.0.1: `lo` on Linux."""
    found = psutil.net_if_addrs().items()
    return next((name for name, entries in found if any(one.address == "127.0.0.1" for one in entries)), "lo")
