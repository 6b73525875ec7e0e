"""What a running trial puts on Ray's metrics port, by task and backbone, for Prometheus to fetch (`bench.gauges`).

A gauge of a trial that ended becomes NaN, which Prometheus draws as nothing: its process
serves other trials and would tell the last value for ever.
"""

from __future__ import annotations

import functools
import math

from ray.util.metrics import Counter, Gauge

from bench.gauges import COUNTERS, GAUGES, HELD_OUT, TAGS, TRIALS
from bench.live import Live
from results.record import TrialSpec


class Gauges:
    """A listener (see `bench.live`) that sets the gauges of one trial."""

    def __init__(self, spec: TrialSpec) -> None:
        self.tags = {"task": spec.task, "backbone": spec.backbone, "control": spec.control}
        self.tags |= {"seed": str(spec.seed), "fold": str(spec.fold)}
        self.batch, self.step = int(spec.train.get("batch", 1)), 0

    def __call__(self, state: Live) -> None:
        self._set("bench_share", state.share)
        if state.doing != "training" or state.step == self.step:
            return
        self._set("bench_loss", state.loss)
        self._set("bench_training_dice", state.dice)
        self._set("bench_validation_dice", state.validation_dice)
        self._set("bench_samples_per_second", state.samples_per_second)
        self._set("bench_epoch", state.epoch)
        if self.step or state.epoch == 1:  # else it was taken up again: what it did before was counted then
            _counter("bench_samples").inc((state.step - self.step) * self.batch, self.tags)
        self.step = state.step

    def ended(self, outcome: str, dice: float | None) -> None:
        """outcome: the record's status; dice: the mean of the held-out cases, None where it was not scored."""
        for name in GAUGES:
            if name != HELD_OUT:
                self._set(name, math.nan)
        self._set(HELD_OUT, dice)
        _counter(TRIALS).inc(1, self.tags | {"outcome": outcome})

    def _set(self, name: str, value: float | None) -> None:
        if value is not None:
            _gauge(name).set(value, self.tags)


@functools.cache
def _gauge(name: str) -> Gauge:
    return Gauge(name, GAUGES[name], TAGS)


@functools.cache
def _counter(name: str) -> Counter:
    return Counter(name, COUNTERS[name], (*TAGS, "outcome") if name == TRIALS else TAGS)
