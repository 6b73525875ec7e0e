"""Where a trial's training stands: all that must be kept beside the engine to go on as if never interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.engine import agreed
from bench.schedule import Schedule
from bench.settings import TrainSettings


class Course:
    """Steps made, budget spent, learning rate, learning curve.

    curve: one {"step", "loss", "dice"} an epoch, to which `bench.validation` may add; taken_up: when training was taken
    up again, and at which step.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings, self.schedule, self.clock = settings, Schedule(settings), Stopwatch()
        self.step, self.spent = 0, 0.0
        self.curve, self.epoch = list[dict[str, Any]](), Epoch()
        self.taken_up = list[str]()

    def share(self, steps: float) -> float:
        """The share of the budget that is spent after so many steps; half steps are asked for too.

        Where time decides it is asked for now, and all workers have that of rank 0.
        """
        if seconds := self.settings.seconds:
            return agreed(self.clock.seconds / seconds)
        assert self.settings.steps, "a budget of epochs is made one of steps by TrainSettings.for_cases"
        return steps / self.settings.steps

    def stepped(self, loss: float, hits: Tensor, sizes: Tensor) -> bool:
        """Count a step that was made; True where it ends one of the curve's epochs, the even parts of the budget."""
        self.step += 1
        self.epoch.add(loss, hits, sizes)
        before, self.spent = self.spent, self.share(self.step)
        if self.spent < 1 and self._part(self.spent) == self._part(before):
            return False
        self.curve.append(self.epoch.entry(self.step))
        self.epoch = Epoch()
        return True

    def _part(self, spent: float) -> int:
        """How many of the budget's even parts are spent, whatever the rounding of a quotient of steps."""
        return int(spent * self.settings.epochs + 1e-9)

    def state(self) -> dict[str, Any]:
        """JSON values and tensors, for `restore`."""
        return {
            "step": self.step,
            "spent": self.spent,
            "seconds": self.clock.seconds,
            "schedule": self.schedule.state(),
            "curve": self.curve,
            "epoch": self.epoch.state(),
            "taken_up": self.taken_up,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.step, self.spent = state["step"], state["spent"]
        self.clock = Stopwatch(state["seconds"])
        self.schedule.restore(state["schedule"])
        self.curve, self.taken_up = state["curve"], state["taken_up"]
        self.epoch.restore(state["epoch"])


class Stopwatch:
    """Seconds of training, runs before an interruption included. No clock that can be set is looked at."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._started: float | None = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile does not count: a budget of wall time buys training, not checkpoints."""
        self._before, self._started = self.seconds, None
        try:
            yield
        finally:
            self._started = time.monotonic()


class Epoch:
    """Sums over the steps of an epoch, and its entry of the learning curve."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.hits: Any = None
        self.sizes: Any = None

    def add(self, loss: float, hits: Tensor, sizes: Tensor) -> None:
        self.losses.append(loss)
        new = hits.cpu().numpy(), sizes.cpu().numpy()
        self.hits, self.sizes = new if self.hits is None else (self.hits + new[0], self.sizes + new[1])

    def entry(self, step: int) -> dict[str, Any]:
        return {"step": step, "loss": float(np.mean(self.losses)), "dice": mean_ratio(self.hits, self.sizes)}

    def state(self) -> dict[str, Any]:
        sums = [] if self.hits is None else [torch.from_numpy(part) for part in (self.hits, self.sizes)]
        return {"losses": self.losses, "sums": sums}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]
        self.hits, self.sizes = (part.numpy() for part in state["sums"]) if state["sums"] else (None, None)


def mean_ratio(hits: Any, sizes: Any) -> float | None:
    """Mean over the classes that were seen or predicted; None if there was none."""
    seen = np.asarray(sizes) > 0
    return float(np.mean(np.asarray(hits)[seen] / np.asarray(sizes)[seen])) if seen.any() else None
