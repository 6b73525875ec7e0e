"""A report of many records: its time, its growth, its memory, and the size of its page."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.results.large_run import Size, write
from tests.speed.harness import CannotMeasure, Reading, fresh, measurement, say

#: 2,000 trials, 200,000 scores; and twice as much of everything that a report has a part for.
ONCE, TWICE = Size(), Size(tasks=2 * Size().tasks)
SECONDS, GROWTH, MEMORY, PAGE = 60, 2.2, 1_500_000_000, 15_000_000
_OF = f"a report over {ONCE.trials:,} trials × {ONCE.cases} cases"


def report(run: str) -> dict[str, float]:
    """In a process of its own, as `bench report` makes it: seconds with its imports, peak of memory, bytes of page."""
    import time

    start = time.perf_counter()
    from bench.run import write_outputs

    page = write_outputs(Path(run))
    return {"seconds": time.perf_counter() - start, "peak": peak(), "page": page.stat().st_size}


def peak() -> int:
    """The most bytes that this process ever had in memory; 0 where the system does not tell. Linux only."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


@functools.cache
def folder(size: Size) -> tempfile.TemporaryDirectory[str]:
    """A generated run of this size; its folder goes with the process."""
    made = tempfile.TemporaryDirectory(prefix="bench-speed-reports-")
    say(f"  generating {size.trials:,} records")
    write(Path(made.name), size)
    return made


@functools.cache
def reports(size: Size, runs: int) -> list[dict[str, Any]]:
    """What `report` told, once a run; every measurement of this room reads the same ones."""
    told = []
    for run in range(runs):
        told.append(fresh(__name__, "report", folder(size).name))
        one = told[-1]
        say(
            f"  run {run + 1} of {runs}: {one['seconds']:.3g} s, {one['peak'] / 1e9:.3g} GB, {one['page'] / 1e6:.3g} MB"
        )
    return told


def middle(size: Size, runs: int, name: str) -> float:
    """The median of what the reports told."""
    return median(one[name] for one in reports(size, runs))


@measurement("report-2000-trials", f"{_OF}: at most {SECONDS} s", None, SECONDS, of="ours")
def report_time(runs: int) -> Reading:
    return Reading(middle(ONCE, runs, "seconds"))


@measurement("report-memory", f"{_OF}: at most 1.5 GB of memory", None, MEMORY, of="ours", unit="bytes")
def report_memory(runs: int) -> Reading:
    most = middle(ONCE, runs, "peak")
    if not most:
        raise CannotMeasure("the peak of memory is read from /proc, which this system does not have")
    return Reading(most)


@measurement("report-page", f"{_OF}: a page under 15 MB", None, PAGE, of="ours", unit="bytes")
def report_page(runs: int) -> Reading:
    return Reading(middle(ONCE, runs, "page"))


@measurement("report-growth", f"twice the records: at most {GROWTH} times the time", f"{ONCE.trials:,} trials", GROWTH)
def report_growth(runs: int) -> Reading:
    twice = middle(TWICE, runs, "seconds")
    note = f"at twice: {middle(TWICE, runs, 'peak') / 1e9:.3g} GB, a page of {middle(TWICE, runs, 'page') / 1e6:.3g} MB"
    return Reading(twice, middle(ONCE, runs, "seconds"), note)
