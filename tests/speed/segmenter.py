"""A training step of the segmenter against UNETR's: its time and its peak of memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.speed.harness import Reading, alternate, fresh, measurement, value, versioned
from tests.speed.segmenter_sides import STEP, Size, give_back_at_once, step_of

#: A step is this many times as fast as UNETR's.
FASTER = 1.5

_UNETR = "UNETR of {} around the same ViT, flash attention on"


def check_learns(*steps: Callable[[], float]) -> None:
    """Both sides train: the loss on one crop falls."""
    for step in steps:
        first, *_, last = [step() for _ in range(3)]
        if not last < first:
            raise AssertionError(f"the loss of a side does not fall: {first:.4g}, then {last:.4g}")


def step_reading(size: Size, runs: int) -> Reading:
    from tests.speed.harness import seconds

    mine, theirs = step_of("ours", size), step_of("peer", size)
    check_learns(mine, theirs)
    our_time, peer_time = alternate(mine, theirs, runs)
    of_16 = step_of("peer of 16", size)
    of_16()
    other = min(seconds(of_16) for _ in range(min(runs, 3)))
    note = (
        f"{peer_time / our_time:.2f} times as fast; MONAI's own class, with patches of 16 and an eighth of the tokens: "
        f"{other:.3g} s, {other / our_time:.2f} times ours"
    )
    return Reading(our_time, peer_time, note)


@measurement(
    "segmenter-step",
    "training step at 96³, 1,728 tokens, width 384, 12 blocks: 1.5 times as fast as UNETR's",
    _UNETR.format(versioned("monai")),
    1 / FASTER,
)
def segmenter_step(runs: int) -> Reading:
    return step_reading(STEP, runs)


def step_peak(way: str, side: str, model: str) -> int:
    """In a process of its own: by how much the model and two of its steps raise the peak of memory."""
    from tests.speed.weights import growth

    give_back_at_once()
    step_of(way, Size(16, json.dumps({"width": 16, "depth": 1, "heads": 1})))()  # for the imports

    def two_steps() -> Any:
        step = step_of(way, Size(int(side), model))
        step(), step()
        return step

    return growth(two_steps)


def peak_reading(size: Size, runs: int) -> Reading:
    sides = [lambda way=way: fresh(__name__, "step_peak", way, str(size.side), size.model) for way in ("ours", "peer")]
    return Reading(*alternate(*sides, runs, gauge=value, warm=False))


@measurement(
    "segmenter-step-memory",
    "the peak of memory of that step is not above UNETR's",
    _UNETR.format(versioned("monai")),
    1.0,
    unit="bytes",
)
def segmenter_step_memory(runs: int) -> Reading:
    return peak_reading(STEP, runs)
