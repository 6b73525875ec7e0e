"""The bar for work that is counted in cases or in bytes, with time left; plain lines where there is no terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bench.progress import Drawn, duration

#: Seconds between two plain lines; work that takes less is told of by what follows it.
INTERVAL = 10.0


class WorkBar(Drawn):
    """Use as a context; call update(done, total) as work goes on. Drawn on stderr, out of the way of what is piped."""

    def __init__(self, title: str, unit: str = "cases", console: Console | None = None) -> None:
        """unit is what is counted; `bytes` are shown as such."""
        self.title, self.unit = title, unit
        self.console = console or Console(stderr=True)
        counted: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn(unit))
        if unit == "bytes":
            counted = (DownloadColumn(), TransferSpeedColumn())
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), *counted, TimeRemainingColumn())
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.before: tuple[int, float] | None = None
        self.told = time.monotonic()

    def update(self, done: int, total: int) -> None:
        """What is done at the first call was done before: it says nothing about how fast the rest will be."""
        now = time.monotonic()
        if self.before is None:
            self.before = done, now
            self.task = self.bar.add_task(self.title, completed=done, total=total)
        self.bar.update(self.task, completed=done, total=total)
        if not self.console.is_terminal and now - self.told >= INTERVAL:
            self.told = now
            self.console.print(self._line(done, total), highlight=False, markup=False, soft_wrap=True)

    def _line(self, done: int, total: int) -> str:
        counts = (
            f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if self.unit == "bytes" else f"{done} of {total} {self.unit}"
        )
        first, since = self.before or (0, self.told)
        passed = time.monotonic() - since
        left = f"{duration(passed * (total - done) / (done - first))} left" if done > first else "time left unknown"
        return f"{self.title}: {counts} ({left})"
