"""A Ray cluster that is there already: joined, and left standing."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import psutil
import ray

from backbones.weights import cache_dir
from bench.running import StudyError

_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_COME_BACK = 20.0
#: How Ray says that a client of `ray://` has no server, and how often that is tried.
_NO_SERVER = ("Initialization failure from server", "session that has already been cleaned up")
_TRIES = 2
#: What a worker must know before its process starts. Of a Ray of our own they inherit it.
_HANDED_ON = ("MALLOC_ARENA_MAX", "HF_HUB_OFFLINE", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")


def connect(address: str, gpus: float | None = None) -> str:
    """Join the cluster; returns its dashboard's address. StudyError says what would work where it cannot be joined.

    Each node keeps its prepared data under the path that the cache has here. With gpus 0 no worker sees a GPU.
    """
    _knock(address)
    env = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    env["BENCH_CACHE"] = str(cache_dir().resolve())
    if gpus == 0:
        env["CUDA_VISIBLE_DEVICES"] = ""
    # Under `ray job submit` the job has an environment of its own, from which these values were inherited.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    try:
        context = _init(address, env)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise StudyError(f"--address {address}: {_reason(error, address)}") from error
    return f"http://{context.dashboard_url}"


def _init(address: str, env: dict[str, str]) -> Any:
    """Each client of `ray://` gets a server of its own. Ray looks for a port that is free and takes it seconds later.

    Clients of two clusters on one machine may so be given the same one: the second try then gets the next.
    """
    for _ in range(_TRIES):
        try:
            return ray.init(
                address=address, runtime_env={"env_vars": env}, log_to_driver=False, logging_level=logging.ERROR
            )
        except ConnectionError as error:
            if not _without_server(error):
                raise
            failed = error
    raise failed


def _without_server(error: Exception) -> bool:
    return any(words in str(error) for words in _NO_SERVER)


def raylets_here() -> list[psutil.Process]:
    """The raylet of the node that this process has joined; none where it came by `ray://`, or cannot see it."""
    node = ray._private.worker._global_node
    if node is None:
        return []
    every = psutil.process_iter(["name", "cmdline"])
    raylets = [one for one in every if one.info["name"] == "raylet"]
    return [one for one in raylets if any(node.raylet_socket_name in part for part in one.info["cmdline"] or ())]


class Head:
    """The process that manages a cluster. Without it Ray waits for a minute, and then ends ours without a word."""

    def __init__(self, address: str) -> None:
        self.address, self._heard = address, time.monotonic()

    def lives(self) -> bool:
        """False once it has not answered for some time: a cluster may bring it up again."""
        if not _silent(self.address):
            self._heard = time.monotonic()
        return time.monotonic() - self._heard < _SECONDS_TO_COME_BACK


def _knock(address: str) -> None:
    """Ray itself tries for a minute before it says that nobody answers."""
    if address != "auto" and (error := _silent(address)):
        raise StudyError(
            f"--address {address}: nobody answers there ({error.strerror or error}); `ray start --head` prints the "
            "address to give, and ray:// goes to port 10001 of the head unless it was told another"
        ) from error


def _silent(address: str) -> OSError | None:
    """Why nobody answers at an address; None if somebody does."""
    place = urlsplit(address if "//" in address else f"//{address}")
    try:
        socket.create_connection((place.hostname, place.port or 0), _SECONDS_TO_ANSWER).close()
    except OSError as error:
        return error
    return None


def _reason(error: Exception, address: str) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = f"{lines[0]} {lines[-1].strip()}" if lines[0].endswith(":") else lines[0]  # a traceback's cause is its end
    if _without_server(error):
        said = next((line.strip() for line in lines if _NO_SERVER[1] in line), lines[-1].strip())
        return (
            f"the head could start no server for this client ({said}). Where it was only too busy, or another cluster "
            "took its port, the same command may do; its logs (ray_client_server*.err) tell. On a node of the cluster "
            "HOST:PORT needs no such server"
        )
    known = "token" in text.lower() or "authenticat" in text.lower()
    if known or (isinstance(error, ConnectionError) and address != "auto"):  # somebody answered when we knocked
        return (
            f"{text}. Does this process have the cluster's token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH), and is this machine a node of it? From elsewhere ray://HOST:PORT works"
        )
    if isinstance(error, ConnectionError):
        return f"no Ray cluster is found ({text}); start one with `ray start --head`, or leave --address out"
    return text
