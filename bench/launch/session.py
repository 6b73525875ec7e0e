"""Ray itself: begun on this machine, and ended."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

from backbones.weights import cache_dir
from bench.launch import token

_OBJECT_STORE_BYTES = 256 * 1024**2  # jobs are a few kilobytes; images are read from disk by each worker


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


def start(cpus: int | None = None) -> Dashboard:
    """Start Ray on this machine, listening on 127.0.0.1 alone (see `bench.launch`)."""
    os.environ["BENCH_CACHE"] = str(cache_dir().resolve())  # workers inherit it, and stand in another folder
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", _loopback())
    token.ensure()
    context: Any = ray.init(
        num_cpus=cpus or os.cpu_count(),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    targets = Path(context.address_info["session_dir"]) / PROMETHEUS_SERVICE_DISCOVERY_FILE
    return Dashboard(f"http://{context.dashboard_url}", token.read(), str(targets))


def stop() -> None:
    """End every process that start() began."""
    ray.shutdown()


def _loopback() -> str:
    """The name of the network interface that is 127.0.0.1: `lo` on Linux."""
    found = psutil.net_if_addrs().items()
    return next((name for name, entries in found if any(one.address == "127.0.0.1" for one in entries)), "lo")
