"""The only training loop."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.crops import CropSampler
from bench.engine import agreed, mean, set_rate
from bench.presets import TrainSettings
from bench.schedule import Schedule
from mvl.loss import batch_dice, dice_ce_loss

#: Called after each epoch with its entry of the learning curve and the share of the budget that is spent.
OnEpoch = Callable[[dict[str, Any], float], None]
#: The share of the budget that is spent after so many steps; half steps are asked for too.
Clock = Callable[[float], float]


class Diverged(ArithmeticError):
    """The loss is no longer a number."""


def train(
    engine: Any, sampler: CropSampler, settings: TrainSettings, rank: int, workers: int, on_epoch: OnEpoch
) -> list[dict[str, Any]]:
    """Train until the budget is spent; returns the learning curve, one {"step", "loss", "dice"} an epoch.

    The budget is settings.steps, or settings.seconds, which end with the step in which they are up. The curve's epochs
    are settings.epochs even parts of it. Crop number i of step s is sample s * batch + i wherever it is computed, so
    the number of workers changes nothing. loss and dice are means over this worker's crops. Diverged if the loss is not
    finite.
    """
    engine.train()
    clock, spent, schedule = start_clock(settings), 0.0, Schedule(settings)
    curve, epoch = list[dict[str, Any]](), _Epoch()
    for step, (image_BCXYZ, label_BXYZ) in enumerate(_batches(engine, sampler, settings, rank, workers), start=1):
        logits_BKXYZ = engine(image_BCXYZ)
        loss = dice_ce_loss(logits_BKXYZ, label_BXYZ)
        if not math.isfinite(value := loss.item()):
            raise Diverged(f"the loss is {value} at step {step}, {spent:.0%} on; a lower --set train.lr may help")
        engine.backward(loss)
        set_rate(engine, settings.lr * schedule.rate(clock(step - 0.5)))
        engine.step()
        epoch.add(value, *batch_dice(logits_BKXYZ, label_BXYZ))
        before, spent = spent, clock(step)
        if spent >= 1 or _part(spent, settings) > _part(before, settings):
            curve.append(epoch.entry(step))
            on_epoch(curve[-1], min(1.0, spent))
            schedule.epoch_ended(mean(curve[-1]["loss"]))
            epoch = _Epoch()
        if spent >= 1:
            break
    return curve


def start_clock(settings: TrainSettings) -> Clock:
    """A clock that starts now. Where time decides, all workers have that of rank 0."""
    if not (seconds := settings.seconds):
        assert settings.steps, "a budget of epochs is made one of steps by TrainSettings.for_cases"
        return lambda steps: steps / settings.steps
    started = time.monotonic()
    return lambda steps: agreed((time.monotonic() - started) / seconds)


def _part(spent: float, settings: TrainSettings) -> int:
    """How many of the budget's even parts are spent, whatever the rounding of a quotient of steps."""
    return int(spent * settings.epochs + 1e-9)


class _Epoch:
    """Sums over the steps of an epoch, and its entry of the learning curve."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.hits: Any = 0.0
        self.sizes: Any = 0.0

    def add(self, loss: float, hits: Tensor, sizes: Tensor) -> None:
        self.losses.append(loss)
        self.hits, self.sizes = self.hits + hits.cpu().numpy(), self.sizes + sizes.cpu().numpy()

    def entry(self, step: int) -> dict[str, Any]:
        return {"step": step, "loss": float(np.mean(self.losses)), "dice": _mean_ratio(self.hits, self.sizes)}


def _batches(
    engine: Any, sampler: CropSampler, settings: TrainSettings, rank: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    share = settings.batch // workers
    for step in itertools.count():
        first = step * settings.batch + rank * share
        images, labels = zip(*(sampler.sample(i) for i in range(first, first + share)), strict=True)
        image = torch.from_numpy(np.stack(images)).to(engine.device)
        label = torch.from_numpy(np.stack(labels)).to(engine.device, torch.int64)
        yield image, label


def _mean_ratio(hits: Any, sizes: Any) -> float | None:
    """Mean over the classes that were seen or predicted; None if there was none."""
    seen = np.asarray(sizes) > 0
    return float(np.mean(np.asarray(hits)[seen] / np.asarray(sizes)[seen])) if seen.any() else None
