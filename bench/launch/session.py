"""Ray itself: begun on this machine, or joined; and ended, or left."""

from __future__ import annotations

import logging
import os
import sys

import psutil
import ray

from backbones.weights import cache_dir
from bench import machine
from bench.launch.cluster import connect

_OBJECT_STORE_BYTES = 256 * 1024**2  # jobs are a few kilobytes; images are read from disk by each worker

#: How often the command begun anew, in its environment, and how often it may.
_RESTARTS, _MOST_RESTARTS = "BENCH_RESTARTS", 10
#: What start() began on this machine.
_raylets: list[psutil.Process] = []


def start(cpus: int | None = None, address: str = "", gpus: float | None = None) -> str:
    """Start Ray on this machine, listening on 127.0.0.1, or join the cluster at address; returns the dashboard's.

    With gpus 0 no worker sees a GPU.
    """
    if address:
        return connect(address, gpus)
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["BENCH_CACHE"] = str(cache_dir().resolve())  # workers inherit it, and stand in another folder
    context = ray.init(
        address="local",  # RAY_ADDRESS may name a cluster that nobody asked for
        num_cpus=cpus or machine.cores(),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",  # or Ray listens on the address of the first network card
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    _raylets[:] = [child for child in psutil.Process().children() if child.name() == "raylet"]
    return f"http://{context.dashboard_url}"


def is_up() -> bool:
    """Whether the raylet that start() began lives: without it nothing runs, and Ray soon ends our process."""
    try:
        return all(raylet.status() != psutil.STATUS_ZOMBIE for raylet in _raylets)
    except psutil.NoSuchProcess:
        return False


def begin_anew() -> None:
    """Kill what start() began and run this process's own command again in its place; returns if too often done.

    Ray cannot be shut down without its raylet: it ends the whole process as it tries.
    """
    done = int(os.environ.get(_RESTARTS, 0))
    if done >= _MOST_RESTARTS:
        return
    for process in psutil.Process().children(recursive=True):
        process.kill()
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, os.environ | {_RESTARTS: str(done + 1)})


def stop() -> None:
    """End every process that start() began; a cluster that was joined is left standing."""
    _raylets.clear()
    ray.shutdown()
