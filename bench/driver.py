"""The command that runs a study, as others see it: `RUN/live/driver.json`, from when Ray runs until it ends.

It names the process, the dashboard's address and where Ray lists its metrics ports; never a token.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.alive import Heart, Owner
from bench.live import FOLDER, tidy
from results import store

FILE = f"{FOLDER}/driver.json"


@dataclass(frozen=True)
class Driver:
    """heard: seconds since 1970 at the last sign of life. targets: the file in which Ray lists its metrics ports."""

    host: str
    pid: int
    born: float
    heard: float
    dashboard: str
    targets: str


@contextlib.contextmanager
def at_work(run: Path, dashboard: str, targets: str) -> Iterator[None]:
    """While the context lasts the run folder says that this process works in it."""
    owner, path = Owner.here(), run / FILE

    def write() -> None:
        state = Driver(owner.host, owner.pid, owner.born, time.time(), dashboard, targets)
        with contextlib.suppress(OSError):
            store.atomic_write(path, (json.dumps(asdict(state)) + "\n").encode(), durable=False)

    write()
    try:
        with Heart(write):
            yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        tidy(run)


def working(run: Path) -> Driver | None:
    """Who works in a run folder at this moment; None if nobody does, or whoever did is gone."""
    try:
        found = Driver(**json.loads((run / FILE).read_bytes()))
        return None if Owner(found.host, found.pid, found.born).gone(found.heard) else found
    except (OSError, ValueError, TypeError):
        return None
