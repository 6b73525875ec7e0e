"""Validation Dice while a trial trains: of a few crops of held-out cases, as nnU-Net's pseudo Dice. It is only shown.

Nothing is decided by it: no learning rate, no early stop, no choice of a checkpoint. A trial's weights and scores are
bit for bit what they are without it, and the scores of a record are of whole held-out cases. Source: Isensee et al.
2021 (nnU-Net).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from bench.course import Course, mean_ratio
from bench.data.crops import CropSampler
from bench.engine import summed
from mvl.loss import batch_dice

#: Crops that are trained on for one to be validated on, which takes about half as long as one of them: 3 % at most.
_TRAINED_FOR_ONE = 20


class Validation:
    """Validates at ends of the curve's epochs: the last, and each before which `crops` times twenty were trained on.

    sampler: crops of the held-out cases, neither changed nor mirrored. The crops of an epoch are the same for every arm
    of a seed, and shared out among the workers; batch is the global one of training. crops 0 validates nothing.
    seconds: the time that it took.
    """

    def __init__(self, sampler: CropSampler, crops: int, rank: int, workers: int, batch: int) -> None:
        self.sampler, self.crops, self.batch = sampler, crops, batch
        self.rank, self.workers = rank, workers
        self.seconds = 0.0

    def epoch_ended(self, engine: Any, course: Course) -> None:
        """Add `validation_dice` to the curve's last entry where it is due; None where no class was there or predicted.

        Every rank must call it. The clock of the training stands still meanwhile, and dropout's generator, too.
        """
        if not self._due(course):
            return
        started = time.monotonic()
        with course.clock.paused():
            course.curve[-1]["validation_dice"] = self._dice(engine, len(course.curve) - 1)
        self.seconds += time.monotonic() - started

    def _due(self, course: Course) -> bool:
        """By the curve alone, which a checkpoint keeps, and which is as long on every rank."""
        before = next((entry["step"] for entry in reversed(course.curve) if "validation_dice" in entry), 0)
        trained = (course.step - before) * self.batch
        return bool(self.crops) and (course.spent >= 1 or trained >= self.crops * _TRAINED_FOR_ONE)

    def _dice(self, engine: Any, epoch: int) -> float | None:
        engine.eval()
        counts: Any = 0.0
        for place in range(-(-self.crops // self.workers)):
            number = place * self.workers + self.rank
            # Under ZeRO stage 3 all ranks compute together: one that has no crop left computes another's once more.
            found = self._counts(engine, epoch * self.crops + number % self.crops)
            counts = counts + found * (number < self.crops)
        engine.train()
        hits, sizes = summed(counts).cpu().numpy()
        return mean_ratio(hits, sizes)

    @torch.no_grad()
    def _counts(self, engine: Any, index: int) -> Tensor:
        """(2, K - 1) of one crop: twice the overlap, and the sizes. One at a time, for any batch is worth the same."""
        image_CXYZ, label_XYZ = (torch.from_numpy(part).to(engine.device) for part in self.sampler.sample(index))
        hits, sizes = batch_dice(engine(image_CXYZ[None]), label_XYZ[None].to(torch.int64))
        return torch.stack([hits.double(), sizes])
