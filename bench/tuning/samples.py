"""What a search leaves behind: a JSON file a sample in `RUN/samples/`, and what it was. They are the only truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench.failures import advised
from bench.study import StudyError
from results.store import atomic_write

FILE = "tuning.json"


class State(StrEnum):
    """How a sample stands. What runs or failed is tried again by the next command; the others are never run twice."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped early"
    DIVERGED = "diverged"
    FAILED = "failed"


#: The states that a sample ends in for good.
ENDED = (State.COMPLETE, State.STOPPED, State.DIVERGED)


@dataclass(frozen=True)
class Rung:
    """A place in the training at which samples are compared: the share of the budget, the step, the inner Dice."""

    share: float
    step: int
    dice: float


@dataclass(frozen=True)
class Sample:
    """One choice of values, and how far it came. seconds are those from its start to its last rung or its end."""

    number: int
    values: dict[str, Any]
    state: State = State.RUNNING
    rungs: tuple[Rung, ...] = ()
    seconds: float = 0.0
    error: str = field(default="", repr=False)

    @property
    def dice(self) -> float | None:
        """The inner Dice of its last rung."""
        return self.rungs[-1].dice if self.rungs else None

    def told(self, entry: Mapping[str, Any]) -> Sample:
        """The sample after it has told of itself: `bench.tuning.sample.Tell` says how."""
        if rung := entry.get("rung"):
            # Whoever is killed from now on finds a finished sample: nothing but an answer is missing of its training.
            state = State.COMPLETE if rung["share"] >= 1 else self.state
            return replace(self, state=state, rungs=(*self.rungs, Rung(**rung)))
        return replace(self, state=State(entry["state"]), error=entry["error"]) if "state" in entry else self

    def ended(self) -> Sample:
        """The sample once nothing more comes of it."""
        return replace(self, state=State.STOPPED) if self.state is State.RUNNING else self

    def died(self, error: str) -> Sample:
        """The sample once its process is gone: what it had ended in before that stands."""
        return replace(self, state=State.FAILED, error=advised(error)) if self.state is State.RUNNING else self


#: Called as a sample goes on, with the share of it that is done; 1.0 once it has ended.
OnSample = Callable[[Sample, float], None]


def write(run: Path, sample: Sample) -> None:
    """Store a sample in `RUN/samples/`, in place of what was there of it."""
    atomic_write(_path(run, sample.number), (json.dumps(asdict(sample), indent=1) + "\n").encode())


def read(run: Path) -> list[Sample]:
    """Every sample of a search, by number; StudyError names a file that is damaged."""
    return [_read(path) for path in sorted((run / "samples").glob("*.json"))]


def _path(run: Path, number: int) -> Path:
    return run / "samples" / f"{number:04d}.json"


def _read(path: Path) -> Sample:
    try:
        body = json.loads(path.read_text())
        rungs = tuple(Rung(**rung) for rung in body.pop("rungs"))
        return Sample(**(body | {"rungs": rungs, "state": State(body["state"])}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyError(
            f"{path}: is damaged ({error}); delete it, and the same command runs its sample again"
        ) from None


def best_first(samples: Iterable[Sample]) -> list[Sample]:
    """The complete samples, the highest inner Dice first, of equals the earlier one.

    One that was stopped has trained for less, and cannot be compared with them.
    """
    complete = [sample for sample in samples if sample.state is State.COMPLETE]
    return sorted(complete, key=lambda sample: (-(sample.dice or 0.0), sample.number))


def bind(run: Path, what: Mapping[str, Any]) -> None:
    """Write what the search is into its folder; StudyError if another one was begun there."""
    path, now = run / FILE, json.loads(json.dumps(what))
    if path.exists():
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise StudyError(f"{path}: is damaged ({error}); use another folder with --out") from error
        if other := [key for key in {**now, **before} if before.get(key) != now.get(key)]:
            raise StudyError(
                f"{run}: the search in this folder was begun with {other[0]} = {before.get(other[0])!r}, the command "
                f"has {now.get(other[0])!r}; use the same options, or another folder with --out"
            )
    atomic_write(path, (json.dumps(now, indent=1) + "\n").encode())
