"""The segmenter's training step under bf16 autocast against fp32: its time, and the loss that it comes to."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.speed.block import BF16_FLAGS, multiplies_bf16
from tests.speed.harness import Reading, alternate, measurement, versioned
from tests.speed.segmenter_sides import STEP, Size, step_of

#: bf16 gains this much, and moves the loss by this share.
GAIN, APART = 1.3, 0.02
LOSS_STEPS = 50


def step_in(precision: str, size: Size, rate: float = 3e-4) -> Callable[[], float]:
    """A training step of ours under autocast, or without."""
    import torch

    step = step_of("ours", size, rate)

    def run() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return step()

    return run


#: Where bf16 is emulated, a step is tried at this size, and decides nothing.
EMULATED = Size(32, json.dumps({"depth": 1}))

NO_BF16 = f"this CPU has none of {', '.join(sorted(BF16_FLAGS))} and emulates bf16; one encoder block was tried"


@measurement(
    "segmenter-bf16",
    "that step under bf16 autocast: 1.3 times as fast as in fp32, where the CPU multiplies bf16",
    f"the same step in fp32, {versioned('torch')}",
    1 / GAIN,
)
def segmenter_bf16(runs: int) -> Reading:
    decided = multiplies_bf16()
    runs, size = (runs, STEP) if decided else (1, EMULATED)
    mine, theirs = alternate(step_in("bf16", size), step_in("fp32", size), runs)
    return Reading(mine, theirs, "" if decided else "emulated", "" if decided else NO_BF16, runs)


#: The whole model on a crop of an eighth of the voxels: what bf16 rounds is the same in each of them.
LEARNER = Size(48)


def loss_after(precision: str, size: Size, steps: int) -> float:
    step = step_in(precision, size)
    return [step() for _ in range(steps)][-1]


@measurement(
    "segmenter-bf16-loss",
    "the loss after 50 steps under bf16 autocast is within 2 % of fp32's: preset `default`, a crop of 48³",
    f"the same steps in fp32, {versioned('torch')}",
    APART,
    of="ours",
    unit="share",
)
def segmenter_bf16_loss(runs: int) -> Reading:
    decided = multiplies_bf16()
    bf16, fp32 = (loss_after(way, LEARNER if decided else EMULATED, LOSS_STEPS) for way in ("bf16", "fp32"))
    note = f"losses {bf16:.5g} and {fp32:.5g}"
    return Reading(abs(bf16 - fp32) / fp32, None, note, "" if decided else NO_BF16, runs=1, exact=True)
