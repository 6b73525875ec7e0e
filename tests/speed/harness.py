"""A measurement, its bar, and how ours and a peer's are taken in turns. Standard library only."""

from __future__ import annotations

import difflib
import gc
import importlib
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

#: Modules whose import registers their measurements.
ROOMS = (
    "tests.speed.weights",
    "tests.speed.block",
    "tests.speed.segmenter",
    "tests.speed.encoder",
    "tests.speed.segmenter_bf16",
    "tests.speed.segmenter_8b",
    "tests.speed.statistics",
    "tests.speed.reports",
    "tests.speed.crops",
    "tests.speed.scoring",
    "tests.speed.window",
    "tests.speed.distributed",
)

#: Runs a verdict needs at least, unless the number is exact, as a count of bytes is.
ENOUGH = 5

Call = Callable[[], Any]
Gauge = Callable[[Call], float]


class CannotMeasure(Exception):
    """What is needed for a measurement is not here; the message says what, and becomes the line's note."""


@dataclass(frozen=True)
class Reading:
    """What was measured. peer is None where the bar is on ours alone.

    undecided says why this machine allows no verdict. runs: how many there were, if not as many as were asked for.
    bar: for a bar that is known only once it is measured. exact: one run gives the same number as many.
    """

    ours: float
    peer: float | None = None
    note: str = ""
    undecided: str = ""
    runs: int | None = None
    bar: float | None = None
    exact: bool = False

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None


@dataclass(frozen=True)
class Measurement:
    """One promise. It holds if `of` (`ratio` = ours / peer, or `ours`) is at most bar."""

    name: str
    what: str
    peer_name: str | None
    bar: float | None
    take: Callable[[int], Reading]
    of: str = "ratio"
    unit: str = "s"


_MEASUREMENTS: dict[str, Measurement] = {}


def measurement(name: str, what: str, peer_name: str | None, bar: float | None, **more: str) -> Callable[[Any], Any]:
    """Register a function from the number of runs to a Reading."""

    def register(take: Callable[[int], Reading]) -> Callable[[int], Reading]:
        assert name not in _MEASUREMENTS, name
        _MEASUREMENTS[name] = Measurement(name, what, peer_name, bar, take, **more)
        return take

    return register


def measurements() -> dict[str, Measurement]:
    """Every measurement of every room, by name."""
    for room in ROOMS:
        importlib.import_module(room)
    return _MEASUREMENTS


def get(name: str) -> Measurement:
    """ValueError, with the nearest name, if there is no such measurement."""
    known = measurements()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"unknown measurement {name!r}{hint} known: {', '.join(known)}")


def versioned(package: str) -> str:
    """A package's name and version."""
    return f"{package} {importlib.metadata.version(package)}"


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)


def seconds(call: Call) -> float:
    """How long a call takes; what it made is kept until the clock has stopped."""
    gc.collect()
    start = time.perf_counter()
    made = call()
    taken = time.perf_counter() - start
    del made
    return taken


def value(call: Call) -> float:
    """The gauge for calls that measure themselves, such as one in a fresh process."""
    return call()


def alternate(ours: Call, peer: Call, runs: int, gauge: Gauge = seconds, warm: bool = True) -> tuple[float, float]:
    """Ours and the peer's of one turn of several: that whose ratio is the median of all turns' ratios.

    A machine that grows slower or faster does so for both sides of a turn; medians of each side alone would pair a slow
    minute of one with a fast one of the other. warm: call each once before, so that imports and the first read of a
    file are not counted.
    """
    if warm:
        ours(), peer()
    turns: list[tuple[float, float]] = []
    for run in range(runs):
        turns.append((gauge(ours), gauge(peer)))
        say(f"  run {run + 1} of {runs}: ours {turns[-1][0]:.4g}, peer {turns[-1][1]:.4g}")
    return sorted(turns, key=lambda turn: turn[0] / turn[1])[(runs - 1) // 2]


def alone(ours: Call, runs: int, gauge: Gauge = seconds) -> float:
    """The median of ours where there is no peer, after one call that is not counted."""
    ours()
    return median(gauge(ours) for _ in range(runs))


def fresh(module: str, function: str, *arguments: str) -> Any:
    """What a function returns in a process of its own; it takes strings and returns something JSON can hold."""
    code = (
        "import importlib, json, sys; module, function, *arguments = sys.argv[1:]; "
        "print(json.dumps(getattr(importlib.import_module(module), function)(*arguments)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, module, function, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module}.{function} failed in a process of its own:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def judged(measured: Measurement, runs: int) -> dict[str, Any]:
    """Take a measurement: its line of JSON. holds is None where nothing is decided, with the reason in note."""
    try:
        reading = measured.take(runs)
    except CannotMeasure as error:
        return _line(measured, None, None, f"not measured: {error}", 0)
    runs = runs if reading.runs is None else reading.runs
    found = reading.ours if measured.of == "ours" else reading.ratio
    bar = measured.bar if reading.bar is None else reading.bar
    assert found is not None and bar is not None, measured.name
    undecided = reading.undecided
    if not undecided and runs < ENOUGH and not reading.exact:
        undecided = f"{runs} runs decide nothing, {ENOUGH} do"
    note = "; ".join(part for part in (undecided, reading.note) if part)
    return _line(measured, reading, None if undecided else found <= bar, note, runs)


def _line(measured: Measurement, reading: Reading | None, holds: bool | None, note: str, runs: int) -> dict[str, Any]:
    bar = reading.bar if reading and reading.bar is not None else measured.bar
    return {
        "name": measured.name,
        "ours": _rounded(reading.ours if reading else None),
        "peer": _rounded(reading.peer if reading else None),
        "peer_name": measured.peer_name,
        "ratio": _rounded(reading.ratio if reading else None),
        "bar": _rounded(bar),
        "holds": holds,
        "rule": f"{measured.of} <= bar",
        "unit": measured.unit,
        "runs": runs,
        "note": note,
    }


def _rounded(number: float | None) -> float | None:
    return number if number is None or isinstance(number, int) else float(f"{number:.4g}")
