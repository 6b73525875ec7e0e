"""Whether a process still lives that left a file behind: by its host and pid, and by how long ago it was heard of."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

from bench.progress import duration

#: Seconds between two signs of life, and after how many without one a process on another host counts as gone.
BEAT, SILENT = 10.0, 60.0


@dataclass(frozen=True)
class Owner:
    """A process by name: its host, its pid, and when it began, for a pid is used again."""

    host: str
    pid: int
    born: float

    @classmethod
    def here(cls) -> Owner:
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def gone(self, heard: float, now: float | None = None) -> str:
        """Why it counts as gone, for a person; empty while it lives. heard: when it last told of itself.

        On its own host the process table tells; seen from another host silence does, unless clocks disagree.
        """
        if self.host == socket.gethostname():
            return "" if self._runs() else f"its process {self.pid} is gone"
        silent = (time.time() if now is None else now) - heard
        return "" if silent < SILENT else f"nothing heard from process {self.pid} on {self.host} for {duration(silent)}"

    def _runs(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.born) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class Heart:
    """Calls beat every so many seconds, from a thread of its own, while its context lasts."""

    def __init__(self, beat: Callable[[], None], seconds: float = BEAT) -> None:
        self.beat, self.seconds = beat, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self.seconds):
            self.beat()
