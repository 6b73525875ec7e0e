"""Ray itself: begun on this machine, or joined; and ended, or left."""

from __future__ import annotations

import logging
import os

import ray

from backbones.weights import cache_dir
from bench import machine
from bench.launch.cluster import connect

_OBJECT_STORE_BYTES = 256 * 1024**2  # jobs are a few kilobytes; images are read from disk by each worker


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
    return f"http://{context.dashboard_url}"


def stop() -> None:
    """End every process that start() began; a cluster that was joined is left standing."""
    ray.shutdown()
