"""The only training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import torch

from bench.course import Course
from bench.data.crops import CropSampler
from bench.data.loader import Crop, batches
from bench.engine import asking_anywhere, mean, set_rate
from bench.keeper import Keeper, Nothing
from bench.settings import TrainSettings
from bench.stopping import Stopped
from bench.validation import Validation
from mvl.loss import batch_dice, dice_ce_loss

#: Called after each epoch with its entry of the learning curve and the share of the budget that is spent.
OnEpoch = Callable[[dict[str, Any], float], None]


class Diverged(ArithmeticError):
    """The loss is no longer a number."""


def train(
    engine: Any,
    sampler: CropSampler,
    settings: TrainSettings,
    rank: int,
    workers: int,
    on_epoch: OnEpoch,
    keeper: Keeper | Nothing | None = None,
    threads: int = 0,
    validation: Validation | None = None,
) -> Course:
    """Train until the budget is spent, from the keeper's checkpoint if there is one; returns the course it took.

    The budget is settings.steps, or settings.seconds, which end with the step in which they are up. The curve's epochs
    are settings.epochs even parts of it. Crop number i of step s is sample s * batch + i wherever it is computed, so
    the number of workers changes nothing, and no position has to be kept beside the step. threads cut crops ahead, and
    change nothing either, nor does validation, which only adds to the curve. loss and dice are means over this worker's
    crops. Diverged if the loss is not finite on any worker, Stopped if the run was asked to stop.
    """
    keeper = keeper or Nothing()
    engine.train()
    course = Course(settings)
    keeper.take_up(engine, course)
    crops = batches(sampler, settings.batch, rank, workers, threads, first=course.step)

    def epoch_ended(entry: dict[str, Any], share: float) -> None:
        if validation:
            validation.epoch_ended(engine, course)
        on_epoch(entry, share)

    with closing(crops):
        _take(engine, settings, course, crops, epoch_ended, keeper)
    return course


def _take(
    engine: Any,
    settings: TrainSettings,
    course: Course,
    crops: Iterator[Crop],
    on_epoch: OnEpoch,
    keeper: Keeper | Nothing,
) -> None:
    """Go the course to its end."""
    while course.spent < 1:
        image, label = (torch.from_numpy(part).to(engine.device) for part in next(crops))
        image_BCXYZ, label_BXYZ = image, label.to(torch.int64)
        logits_BKXYZ = engine(image_BCXYZ)
        loss = dice_ce_loss(logits_BKXYZ, label_BXYZ)
        value = loss.item()
        # Asked before the backward pass and heard after it: workers then wait for each other once a step, not twice.
        asked = asking_anywhere(not math.isfinite(value), keeper.due(course), keeper.stop())
        engine.backward(loss)
        wild, due, stop = asked()
        if wild:
            raise Diverged(
                f"the loss is {value} at step {course.step + 1}, {course.spent:.0%} on; a lower --set train.lr may help"
            )
        set_rate(engine, settings.lr * course.schedule.rate(course.share(course.step + 0.5)))
        engine.step()
        if course.stepped(value, *batch_dice(logits_BKXYZ, label_BXYZ)):
            on_epoch(course.curve[-1], min(1.0, course.spent))
            course.schedule.epoch_ended(mean(course.curve[-1]["loss"]))
        if due or stop or (course.spent >= 1 and keeper.kept):
            keeper.save(engine, course)
        if stop and course.spent < 1:
            raise Stopped(f"stopped at step {course.step}, {course.spent:.0%} on")
