"""What the tests of `bench tune` share: a model small enough to be searched, and samples one by one without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.study import StudySpec
from bench.tuning.sample import attempt
from bench.tuning.samples import OnSample, Sample
from bench.tuning.search import Search, Wish, make_search
from tests.bench.door import flags_of
from tests.bench.trial_room import SMALL

TASK = "Task99_Tiny"
SMALL_FLAGS = [
    *("--steps", "4"),
    *flags_of("model.image=16,16,16", "model.width=16", "model.depth=2", "model.heads=2", "train.epochs=2"),
]


def one_by_one(
    search: Search, wish: Wish, todo: Sequence[Sample], before: Sequence[Sample], on_sample: OnSample
) -> None:
    """What Ray does, in this process: samples in their order, each to its end."""
    for sample in todo:
        heard: list[Sample] = [sample]

        def tell(entry: dict[str, Any], heard: list[Sample] = heard) -> None:
            heard.append(heard[-1].told(entry))
            on_sample(heard[-1], 0.5)

        attempt(search, sample.values, tell)
        on_sample(heard[-1].ended(), 1.0)


def searched(data: Path, *dimensions: str, **more: Any) -> Search:
    study = StudySpec(**({"data": str(data), "tasks": (TASK,), "settings": SMALL} | more))
    return make_search(study, Wish(dimensions or ("lr=1e-3,1e-2",)), lambda text: None)
