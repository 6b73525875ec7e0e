"""The only training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.crops import CropSampler
from bench.presets import TrainSettings
from mvl.loss import batch_dice, dice_ce_loss

#: Called after each epoch with its entry of the learning curve.
OnEpoch = Callable[[dict[str, Any]], None]


class Diverged(ArithmeticError):
    """The loss is no longer a number."""


def train(
    engine: Any, sampler: CropSampler, settings: TrainSettings, rank: int, workers: int, on_epoch: OnEpoch
) -> list[dict[str, Any]]:
    """Train for settings.steps steps; returns the learning curve, one {"step", "loss", "dice"} an epoch.

    Crop number i of step s is sample s * batch + i wherever it is computed, so the number of workers changes nothing.
    loss and dice are means over this worker's crops. Diverged if the loss is not finite.
    """
    engine.train()
    curve: list[dict[str, Any]] = []
    marks = epoch_ends(settings.steps, settings.epochs)
    losses: list[float] = []
    hits: Any = 0.0
    sizes: Any = 0.0
    for step, (image_BCXYZ, label_BXYZ) in enumerate(_batches(engine, sampler, settings, rank, workers), start=1):
        logits_BKXYZ = engine(image_BCXYZ)
        loss = dice_ce_loss(logits_BKXYZ, label_BXYZ)
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise Diverged(
                f"the loss is {losses[-1]} at step {step} of {settings.steps}; a lower --set train.lr may help"
            )
        engine.backward(loss)
        engine.step()
        hit, size = batch_dice(logits_BKXYZ, label_BXYZ)
        hits, sizes = hits + hit.cpu().numpy(), sizes + size.cpu().numpy()
        if step in marks:
            curve.append({"step": step, "loss": float(np.mean(losses)), "dice": _mean_ratio(hits, sizes)})
            on_epoch(curve[-1])
            losses, hits, sizes = [], 0.0, 0.0
    return curve


def epoch_ends(steps: int, epochs: int) -> set[int]:
    """The steps after which an epoch ends: `epochs` of them, evenly spread, the last at the last step."""
    return {round(steps * (i + 1) / epochs) for i in range(epochs)} - {0}


def _batches(
    engine: Any, sampler: CropSampler, settings: TrainSettings, rank: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    share = settings.batch // workers
    for step in range(settings.steps):
        first = step * settings.batch + rank * share
        images, labels = zip(*(sampler.sample(i) for i in range(first, first + share)), strict=True)
        image = torch.from_numpy(np.stack(images)).to(engine.device)
        label = torch.from_numpy(np.stack(labels)).to(engine.device, torch.int64)
        yield image, label


def _mean_ratio(hits: Any, sizes: Any) -> float | None:
    """Mean over the classes that were seen or predicted; None if there was none."""
    seen = np.asarray(sizes) > 0
    return float(np.mean(np.asarray(hits)[seen] / np.asarray(sizes)[seen])) if seen.any() else None
