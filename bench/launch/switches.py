"""What Ray can do as it begins, but `ray.init` has no argument for.

All of it is private to Ray: hence the tight version range, and tests of sockets, of processes and of the dashboard.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray._private import parameter, ray_constants, utils, worker
from ray.experimental import internal_kv

#: How long Ray's dashboard may take to come up, as Ray itself has it, and how often it is looked for.
_SECONDS, _SECONDS_BETWEEN_ASKING = 60.0, 0.05


@contextlib.contextmanager
def begun_for_us() -> Iterator[None]:
    """Within it `ray.init` begins a Ray that keeps to this machine, and begins it in half the time.

    - Its node may have the address 127.0.0.1. Otherwise Ray puts the address of the first network card in its place,
      and its ports, that of the metrics among them, listen on all addresses.
    - Two processes are left out, half a second of a core each: the monitor that would add machines, and the reader of
      the workers' logs, to which nobody listens, as nothing is logged to the driver.
    - The raylet begins while the dashboard comes up, see `dashboard_address`. That the dashboard's packages are there
      is not tried here by importing them, which takes another half second: the dashboard itself does it.
    """
    ask: Any = internal_kv._internal_kv_get
    without: Any = {"no_monitor": True, "include_log_monitor": False}

    def answer(key: Any, *given: Any, **named: Any) -> bytes | None:
        # Ray asks for the dashboard's address until there is one, and begins no raylet before.
        return b"" if key == ray_constants.DASHBOARD_ADDRESS else ask(key, *given, **named)

    # Not in the module itself: what is imported meanwhile, as Ray Tune is, would keep our answer for good.
    asking = SimpleNamespace(**vars(internal_kv) | {"_internal_kv_get": answer})
    with (
        _instead(ray_constants, "ENABLE_RAY_CLUSTER", False),
        _instead(parameter, "RayParams", partial(parameter.RayParams, **without)),
        _instead(utils, "get_dashboard_dependency_error", lambda: None),
        _instead(ray.experimental, "internal_kv", asking),
    ):
        yield


@contextlib.contextmanager
def with_our_signals() -> Iterator[None]:
    """Within it `ray.init` leaves SIGTERM to us. Its own handler would end the process with exit code 15, unsaid."""
    with _instead(utils, "set_sigterm_handler", lambda handler: None):
        yield


@contextlib.contextmanager
def _instead(place: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def dashboard_address(session: Path) -> str:
    """Where the dashboard of the Ray that was begun listens, HOST:PORT; waits until it does.

    session: Ray's folder. RuntimeError if the dashboard has ended, or takes too long.
    """
    node: Any = worker._global_node
    place = ray_constants.KV_NAMESPACE_DASHBOARD
    process = node.all_processes[ray_constants.PROCESS_TYPE_DASHBOARD][0].process
    end = time.monotonic() + _SECONDS
    while not (address := internal_kv._internal_kv_get(ray_constants.DASHBOARD_ADDRESS, namespace=place)):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"Ray's dashboard does not come up; {session / 'logs'}/dashboard.* tell why")
        time.sleep(_SECONDS_BETWEEN_ASKING)
    return str(address.decode())
