"""What a trial reports, told to everyone who wants to see it: Tune, its live file, the event file, the metrics port."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.events import EventFile
from bench.launch.metrics import Gauges
from bench.live import telling
from bench.trial import Report, TrialJob
from results import metrics
from results.record import TrialResult


@dataclass(frozen=True)
class Told:
    """report is passed to the trial; ended is called with its record."""

    report: Report
    events: EventFile
    gauges: Gauges

    def ended(self, record: TrialResult | None) -> None:
        """None: this worker is not the one that scores."""
        if record is None:
            return
        dice = held_out_dice(record)
        self.gauges.ended(record.status.value, dice)
        if record.curve:
            with contextlib.suppress(OSError):
                self.events.ended(record.curve[-1]["step"], dice)


@contextlib.contextmanager
def told(job: TrialJob, report: Report) -> Iterator[Told]:
    """Around one trial in its own process; report is what passes on to Tune."""
    events, gauges = EventFile(Path(job.run), job.spec.key), Gauges(job.spec)
    with telling(job, report, events, gauges) as pass_on:
        yield Told(pass_on, events, gauges)


def held_out_dice(record: TrialResult) -> float | None:
    """Mean Dice: cases averaged within a class, classes within the task; None where nothing is defined."""
    of_label: dict[str, list[float]] = {}
    for case in record.cases:
        value = float(metrics.dice(case.tp, case.fp, case.fn, case.tn))
        if not math.isnan(value):
            of_label.setdefault(case.label, []).append(value)
    means = [sum(values) / len(values) for values in of_label.values()]
    return sum(means) / len(means) if means else None
