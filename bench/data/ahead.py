"""Work on many cases in processes of their own, as many at a time as cores and memory allow."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import psutil

from bench.data.nifti import DataError

#: The part of the memory that is free now which all processes together may take.
_SHARE = 0.8
#: A process with nothing but our imports.
_PROCESS = 120 << 20


@dataclass(frozen=True)
class Job:
    """work(*arguments) in a process of its own, thought to need `memory` bytes; name is for people."""

    name: str
    work: Callable[..., None]
    arguments: tuple[Any, ...]
    memory: int


@dataclass
class _Worker:
    """A process that calls one job after another, and our end of the pipe to it."""

    process: Any
    pipe: Any
    job: Job | None = None


def run(jobs: Sequence[Job], workers: int, memory: int) -> Iterator[tuple[Job, str]]:
    """Run all jobs, large ones first, and yield each with its error ("" if there was none) as it ends.

    At most `workers` at a time, and together at most `memory` bytes by their own estimates; a job that needs more is
    run alone. An exception, or a process that dies, is that job's error: the others go on. Closing the iterator
    (Ctrl-C) ends the processes.
    """
    todo = sorted(jobs, key=lambda job: job.memory, reverse=True)
    idle: list[_Worker] = []
    busy: dict[Any, _Worker] = {}
    try:
        while todo or busy:
            while len(busy) < workers and (job := _fitting(todo, busy.values(), memory)):
                todo.remove(job)
                worker = idle.pop() if idle else _start()
                worker.job = job
                worker.pipe.send((job.work, job.arguments))
                busy[worker.pipe] = worker
            for pipe in connection.wait(list(busy)):
                worker = busy.pop(pipe)
                assert worker.job is not None, "a busy worker has a job"
                error, alive = _answer(worker)
                if alive:
                    idle.append(worker)
                yield worker.job, error if worker.job.name in error or not error else f"{worker.job.name}: {error}"
    finally:
        for worker in (*idle, *busy.values()):
            worker.process.terminate()
            worker.process.join()


def _fitting(todo: list[Job], busy: Iterable[_Worker], memory: int) -> Job | None:
    """The largest job for which there is memory; any where nothing else runs."""
    taken = [worker.job.memory + _PROCESS for worker in busy if worker.job]
    return next((job for job in todo if not taken or sum(taken) + job.memory + _PROCESS <= memory), None)


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    return _Worker(process, ours)


def _serve(pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends us
    while True:
        try:
            work, arguments = pipe.recv()
        except EOFError:  # the parent is gone
            return
        try:
            work(*arguments)
        except DataError as error:
            pipe.send(str(error))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")
        else:
            pipe.send("")


def _answer(worker: _Worker) -> tuple[str, bool]:
    """The error of a worker's job, and whether the worker can take another one."""
    try:
        return worker.pipe.recv(), True
    except (EOFError, ConnectionResetError):
        worker.process.join()
    need = size_text(worker.job.memory) if worker.job else ""
    return (
        f"its process ended with code {worker.process.exitcode}, as when the system runs out of memory; it was thought "
        f"to need {need}: free memory, or try --workers 1"
    ), False


def free_memory() -> int:
    """Bytes that new processes may take: $BENCH_MEMORY (such as 8G), or most of what is free here and now."""
    if asked := os.environ.get("BENCH_MEMORY"):
        return size_of(asked, "BENCH_MEMORY")
    return int(_SHARE * min(psutil.virtual_memory().available, _container_memory()))


def _container_memory() -> float:
    """What a container's limit leaves; psutil sees the whole machine."""
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:  # no container, or another system
        return float("inf")
    return float("inf") if limit == "max" else float(limit) - float(used)


def size_of(text: str, name: str) -> int:
    """`8G`, `500M` or a number of bytes; DataError names the flag or variable."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")) if found else 0
    if not size:
        raise DataError(f"{name}: {text!r} is no size; give one such as 8G or 500M")
    return size


def size_text(size: float) -> str:
    """`3.2 GB`, `45 MB`: as exact as an estimate deserves."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.{0 if size >= 1e7 else 1}f} MB"
