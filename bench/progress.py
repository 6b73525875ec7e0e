"""The progress bar over trials or cases, with time left; plain lines where the output is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_REDRAWS_PER_SECOND = 4


class Drawn:
    """What holds a bar: drawn while its context lasts."""

    bar: Progress

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()


class _WithLines(Progress):
    """A bar with more below it, asked for at each redrawing."""

    below: Callable[[], RenderableType] | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below and not self.finished:
            yield self.below()


class TrialProgress(Drawn):
    """Counts trials, done or partly done, and those that failed. Use as a context; call update as they go."""

    def __init__(
        self,
        titles: Mapping[str, str],
        console: Console,
        noun: str = "trials",
        below: Callable[[], RenderableType] | None = None,
    ) -> None:
        """titles: each trial's key and the name that people read; noun: what is counted, where it is something else.

        below: what stands below the bar on a terminal, such as the trials that run.
        """
        self.titles, self.total, self.console = titles, len(titles), console
        self.shares: dict[str, float] = {}
        self.failed: set[str] = set()
        self.started = time.monotonic()
        self.bar = _WithLines(
            TextColumn(noun),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            refresh_per_second=_REDRAWS_PER_SECOND,
        )
        self.task = self.bar.add_task(noun, total=self.total, note="starting")
        self.bar.below = below

    def update(self, key: str, share: float, failed: bool = False) -> None:
        """share is how much of the trial is done, 1.0 once it has ended, failed or not."""
        ended = share >= 1.0 and self.shares.get(key, 0.0) < 1.0
        self.shares[key] = max(share, self.shares.get(key, 0.0))
        if failed:
            self.failed.add(key)
        done = sum(value >= 1.0 for value in self.shares.values())
        broken = f"{len(self.failed)} failed, " if self.failed else ""
        self.bar.update(self.task, completed=done, note=f"{broken}{self.left()}")
        if ended and not self.console.is_terminal:
            mark = "failed, " if failed else ""
            print(f"{done} of {self.total}  {self.titles[key]}  ({mark}{self.left()})", file=sys.stderr, flush=True)

    def left(self) -> str:
        """Time left, from the share of all work that is done so far."""
        part = sum(self.shares.values())
        if part <= 0:
            return "time left unknown"
        seconds = (time.monotonic() - self.started) * (self.total - part) / part
        return f"{duration(seconds)} left"


def to_stderr(line: str) -> None:
    """A line for whoever watches, out of the way of what is piped on."""
    print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`: as exact as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
