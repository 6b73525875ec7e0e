"""The optimizer of a trial, and its learning rate over the budget: `train.optimizer` and `train.schedule`.

Both schedules rise linearly over `train.warmup` of the budget. `cosine` then falls to zero at its end. `plateau` stays
at the peak and is multiplied by `train.factor` after more than `train.patience` epochs in which the mean training loss
was no better than before; an epoch is an entry of the learning curve. Nothing of held-out cases decides here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bench.settings import TrainSettings

OPTIMIZERS: dict[str, type[torch.optim.AdamW] | type[torch.optim.Adam]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}

#: What ReduceLROnPlateau remembers from epoch to epoch.
_COUNTED = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


def make_optimizer(parameters: Iterable[nn.Parameter], train: TrainSettings) -> torch.optim.Optimizer:
    """AdamW, whose weight decay shrinks the weights, or Adam, whose weight decay is added to the gradient."""
    return OPTIMIZERS[train.optimizer](parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)


class Schedule:
    """The learning rate as a share of the peak."""

    def __init__(self, train: TrainSettings) -> None:
        self.train = train
        self._plateau = _Plateau(train) if train.schedule == "plateau" else None

    def rate(self, progress: float) -> float:
        """At this share of the budget, 0 to 1; a last step may end after its time."""
        progress = min(progress, 1.0)
        if progress < self.train.warmup:
            return progress / self.train.warmup
        if self._plateau:
            return self._plateau.share
        fallen = (progress - self.train.warmup) / max(1e-9, 1 - self.train.warmup)
        return 0.5 * (1 + math.cos(math.pi * fallen))

    def epoch_ended(self, loss: float) -> None:
        """loss is the mean training loss of the epoch, the same on every worker."""
        if self._plateau:
            self._plateau.epoch_ended(loss)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, as JSON values."""
        return self._plateau.state() if self._plateau else {}

    def restore(self, state: dict[str, Any]) -> None:
        if self._plateau:
            self._plateau.restore(state)


class _Plateau:
    """torch's ReduceLROnPlateau with its defaults, on an optimizer of its own: DeepSpeed's wrapper is none to it."""

    def __init__(self, train: TrainSettings) -> None:
        self._holder = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._torch = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._holder, factor=train.factor, patience=train.patience
        )

    @property
    def share(self) -> float:
        return float(self._holder.param_groups[0]["lr"])

    def epoch_ended(self, loss: float) -> None:
        self._torch.step(loss)

    def state(self) -> dict[str, Any]:
        return {"share": self.share} | {name: getattr(self._torch, name) for name in _COUNTED}

    def restore(self, state: dict[str, Any]) -> None:
        self._holder.param_groups[0]["lr"] = state["share"]
        for name in _COUNTED:
            setattr(self._torch, name, state[name])
