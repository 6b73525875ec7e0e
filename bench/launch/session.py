"""Ray itself: begun on this machine, and ended."""

from __future__ import annotations

import logging
import os

import ray

from backbones.weights import cache_dir

_OBJECT_STORE_BYTES = 256 * 1024**2  # jobs are a few kilobytes; images are read from disk by each worker


def start(cpus: int | None = None) -> str:
    """Start Ray on this machine, listening on 127.0.0.1; returns the dashboard's address."""
    os.environ["BENCH_CACHE"] = str(cache_dir().resolve())  # workers inherit it, and stand in another folder
    context = ray.init(
        num_cpus=cpus or os.cpu_count(),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",  # or Ray listens on the address of the first network card
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    return f"http://{context.dashboard_url}"


def is_up() -> bool:
    """Whether any machine is left in Ray: its raylet may have been killed, and nothing would ever run then."""
    return any(node["Alive"] for node in ray.nodes())


def stop() -> None:
    """End every process that start() began."""
    ray.shutdown()
