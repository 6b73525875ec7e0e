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
def held(run: Path, what: str = "`bench run`") -> Iterator[None]:
    """Make a run folder, and hold it for what is done in it; StudyError if it cannot be made or written to.

    A StudyError also names the host and process that holds it already.
    """
    lock = FileLock(run / ".lock", timeout=0)
    try:
        run.mkdir(parents=True, exist_ok=True)
        Path(lock.lock_file).touch()  # where it cannot be made, filelock says that it is held
        lock.acquire()
    except Timeout:
        raise StudyError(
            f"{run}: another {what} is at work in this folder{_holder(run)}; wait for it, or use another --out"
        ) from None
    except OSError as error:
        raise _no_place(run, error) from error
    try:
        me = {"host": socket.gethostname(), "pid": os.getpid(), "since": provenance.now()}
        atomic_write(run / FILE, json.dumps(me).encode())
        yield
    finally:
        (run / FILE).unlink(missing_ok=True)
        lock.release()


def check_place(run: Path) -> None:
    """StudyError if it can be seen that a run folder cannot be made there, or is none. Makes nothing."""
    try:
        place = next(place for place in (run, *run.parents) if place.exists())
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is a file")
        if place != run and not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"{place} may not be written to")
    except OSError as error:
        raise _no_place(run, error) from error


def _no_place(run: Path, error: OSError) -> StudyError:
    return StudyError(f"--out {run}: cannot be made or written to ({error.strerror or error}); give another folder")


def _holder(run: Path) -> str:
    try:
        one = json.loads((run / FILE).read_text())
        return f": process {one['pid']} on host {one['host']}, since {one['since']}"
    except (OSError, ValueError, KeyError):  # it has only just begun
        return ""
