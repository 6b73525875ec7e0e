"""The way through `ray://`: the cluster itself runs the study, and tells this process how it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import ray
from ray.util.queue import Queue

from bench.stopping import Stop

_SECONDS = 0.5


def through_client() -> bool:
    """Whether this process reaches the cluster by `ray://`, and is no driver itself."""
    return ray.util.client.ray.is_connected()


def run_there(run: Callable[..., Any], on_progress: Callable[..., None], stop: Stop | None, *given: Any) -> Any:
    """`run(*given, on_progress)` as a task of the cluster, which lets Tune and its callbacks live there.

    Raises what `Stop.look` raises; the task, and all that it began, ends as this process leaves the cluster.
    """
    queue = Queue(actor_options={"num_cpus": 0})
    going = ray.remote(num_cpus=0, max_retries=0)(_drive).remote(run, queue, *given)
    with stop.stepwise() if stop else contextlib.nullcontext():
        while True:
            done, _ = ray.wait([going], timeout=_SECONDS)
            for told in queue.get_nowait_batch(queue.qsize()):
                on_progress(*told)
            if done:
                return ray.get(going)
            if stop:
                stop.look()


def _drive(run: Callable[..., Any], queue: Queue, *given: Any) -> Any:
    return run(*given, lambda *told: queue.put(told))
