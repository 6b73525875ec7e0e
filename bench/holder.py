"""One `bench run` at a time in a run folder. The system lets go of the lock when its process dies, however it dies."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench import provenance
from bench.study import StudyError
from results.store import atomic_write

#: Who holds the lock; apart from it, as some versions of filelock empty the file that they lock.
FILE = ".holder.json"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold a run folder; StudyError names the host and process that holds it already."""
    lock = FileLock(run / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(
            f"{run}: another `bench run` is at work in this folder{_holder(run)}; wait for it, or use another --out"
        ) from None
    try:
        me = {"host": socket.gethostname(), "pid": os.getpid(), "since": provenance.now()}
        atomic_write(run / FILE, json.dumps(me).encode())
        yield
    finally:
        (run / FILE).unlink(missing_ok=True)
        lock.release()


def _holder(run: Path) -> str:
    try:
        one = json.loads((run / FILE).read_text())
        return f": process {one['pid']} on host {one['host']}, since {one['since']}"
    except (OSError, ValueError, KeyError):  # it has only just begun
        return ""
