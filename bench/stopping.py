"""Stopping a run with grace: SIGTERM asks its trials for a last checkpoint, and gives them time to write it.

The request is a file in the run folder, which every worker sees, on whichever machine: batch systems such as Slurm give
a job half a minute between SIGTERM and SIGKILL. BENCH_GRACE is how many seconds are waited for, and read at the start.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from bench.running import StudyError

FILE = ".stop"
GRACE = 25.0
#: How often a worker looks for the request.
_SECONDS = 0.5


class Stopped(Exception):
    """The trial was asked to stop; what it has done is in its checkpoint."""


class Terminated(BaseException):
    """The run was told to end by SIGTERM."""


def grace() -> float:
    """How many seconds trials are given to stop; StudyError if BENCH_GRACE is no such number."""
    text = os.environ.get("BENCH_GRACE") or str(GRACE)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise StudyError(f"BENCH_GRACE: {text!r} is not a number of seconds such as 25")
    return seconds


def asked(run: Path) -> Callable[[], bool]:
    """A function that says whether the run was asked to stop; it looks seldom, so that each step may call it."""
    path, looked, found = Path(run) / FILE, -_SECONDS, False

    def look() -> bool:
        nonlocal looked, found
        if time.monotonic() - looked >= _SECONDS:
            looked, found = time.monotonic(), path.exists()
        return found

    return look


class Stop:
    """Within its context SIGTERM asks the trials of a run to stop; the second one, or one outside `trials`, ends it.

    Ray sets a handler of its own as it starts, so `listen` has to be called again after that. Ctrl-C raises
    KeyboardInterrupt as ever, but `stepwise`.
    """

    def __init__(self, run: Path) -> None:
        self.path = Path(run) / FILE
        self.asked, self._since, self._waits, self._grace = False, 0.0, False, grace()
        self.interrupted, self._stepwise = False, False

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)  # left by a run that was killed as it stopped
        self._main = threading.current_thread() is threading.main_thread()
        self._before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            for one, handler in self._before.items():
                signal.signal(one, handler)
        self.path.unlink(missing_ok=True)

    def listen(self) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_interrupt)

    @contextlib.contextmanager
    def stepwise(self) -> Iterator[None]:
        """Within it somebody looks at `interrupted` again and again, and the first Ctrl-C is only noted.

        Raised amid Ray's own code, KeyboardInterrupt may be lost there. It is raised as the context ends at the latest.
        """
        self._stepwise = True
        try:
            yield
        finally:
            self._stepwise = False
        if self.interrupted:
            raise KeyboardInterrupt

    def trials(self, running: bool) -> None:
        """Say whether there are trials that could be waited for."""
        self._waits = running

    def without_grace(self) -> None:
        """What runs keeps no checkpoint: SIGTERM is noted, as if trials ran, and their time is up at once."""
        self._waits, self._grace = True, 0.0

    def look(self) -> None:
        """KeyboardInterrupt after Ctrl-C, and Terminated once the time that trials are given is up."""
        if self.interrupted:
            raise KeyboardInterrupt
        if self.over:
            raise Terminated

    @property
    def over(self) -> bool:
        """Whether the time that trials are given is up."""
        return self.asked and time.monotonic() - self._since >= self._grace

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted or not self._stepwise:
            raise KeyboardInterrupt
        self.interrupted = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._waits:
            raise Terminated
        self.asked, self._since = True, time.monotonic()
        try:
            self.path.touch()
        except OSError:  # a full disk: nothing can be asked for, nor kept
            raise Terminated from None
