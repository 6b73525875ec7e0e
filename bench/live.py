"""What a running trial says of itself: `RUN/live/<key>.json`, from its start until its record is written.

The file is only for looking at; nothing is decided by it. It tells which process writes it, so that one left behind by
a process that was killed is known as such.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from bench.alive import Heart, Owner
from bench.held_out import TRAINING_SHARE
from bench.trial import Report, TrialJob
from results import store

FOLDER = "live"
_SECONDS_BETWEEN_WRITES = 1.0


@dataclass(frozen=True)
class Live:
    """A trial at one moment; times are seconds since 1970 by the clock of its host.

    doing is `preparing`, `training` or `scoring`. epoch, step, loss and dice are of the last entry of the learning
    curve: loss and Dice of training crops; validation_dice is of the last that has one, made at step validated.
    samples_per_second: crops trained on between the last two entries, the time of validation included; share: how much
    of the trial is done.
    """

    host: str
    pid: int
    born: float
    started: float
    updated: float
    doing: str = "preparing"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    loss: float | None = None
    dice: float | None = None
    validation_dice: float | None = None
    validated: int = 0
    samples_per_second: float | None = None
    share: float = 0.0

    @property
    def gone(self) -> str:
        """Why its process counts as gone; empty while it lives."""
        return Owner(self.host, self.pid, self.born).gone(self.updated)

    def after(self, entry: dict[str, Any], share: float, batch: int, now: float) -> Live:
        """Once the trial has reported an entry; batch: crops a step."""
        state = replace(self, updated=now, share=share)
        if "loss" not in entry:
            return replace(state, doing="scoring") if "scored" in entry else state
        known = self.doing == "training" and now > self.updated
        if "validation_dice" in entry:
            state = replace(state, validation_dice=entry["validation_dice"], validated=entry["step"])
        return replace(
            state,
            doing="training",
            epoch=round(min(1.0, share / TRAINING_SHARE) * self.epochs),
            step=entry["step"],
            loss=entry["loss"],
            dice=entry.get("dice"),
            samples_per_second=(entry["step"] - self.step) * batch / (now - self.updated) if known else None,
        )


#: Called with every state that a trial comes into.
Listener = Callable[[Live], None]


@contextlib.contextmanager
def telling(job: TrialJob, report: Report, *listeners: Listener) -> Iterator[Report]:
    """A Report that also keeps the trial's live file and calls the listeners; the file goes when the context ends well.

    A file that cannot be written is left out: a full disk must not end a trial that may yet find room for its record.
    """
    state, path = _begin(job), path_of(Path(job.run), job.spec.key)
    lock, written = threading.Lock(), 0.0

    def write() -> None:
        with lock, contextlib.suppress(OSError):
            store.atomic_write(path, _text(replace(state, updated=time.time())), durable=False)

    def pass_on(entry: dict[str, Any], share: float) -> None:
        nonlocal state, written
        before, state = state, state.after(entry, share, job.spec.train.get("batch", 1), time.time())
        if state.doing != before.doing or time.monotonic() - written >= _SECONDS_BETWEEN_WRITES:
            write()
            written = time.monotonic()
        for listener in listeners:
            with contextlib.suppress(OSError):
                listener(state)
        report(entry, share)

    write()
    with Heart(write):
        yield pass_on
    forget(Path(job.run), job.spec.key)


def _begin(job: TrialJob) -> Live:
    now, owner = time.time(), Owner.here()
    epochs = int(job.spec.train.get("epochs", 0))
    return Live(owner.host, owner.pid, owner.born, started=now, updated=now, epochs=epochs)


def _text(state: Live) -> bytes:
    return (json.dumps(asdict(state)) + "\n").encode()


def path_of(run: Path, key: str) -> Path:
    return run / FOLDER / f"{key}.json"


def forget(run: Path, key: str) -> None:
    """Take the file away: the trial has its record."""
    with contextlib.suppress(OSError):
        path_of(run, key).unlink(missing_ok=True)


def tidy(run: Path) -> None:
    """Take the folders away that no trial has a file in any more."""
    for folder in sorted((run / FOLDER).rglob("*/"), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()


def read(run: Path) -> dict[str, Live]:
    """Trial key → what it last told, of every file that is there, left behind or not; a damaged one counts as none."""
    folder = run / FOLDER
    found = {}
    for path in sorted(folder.rglob("*/*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found[path.relative_to(folder).with_suffix("").as_posix()] = _checked(json.loads(path.read_bytes()))
    return found


def _checked(body: Any) -> Live:
    state, kinds = Live(**body), get_type_hints(Live)
    for name, value in vars(state).items():
        allowed = get_args(kinds[name]) or (kinds[name],)
        if not isinstance(value, (*allowed, int) if float in allowed else allowed):
            raise ValueError(f"{name} is {value!r}")
    return state
