"""Listens to Tune: progress passed on, and a record for a trial whose process died."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from bench.trial import TrialJob, record_failure
from results import store

#: Called with a trial's key and the share of it that is done; 1.0 once it has ended.
OnProgress = Callable[[str, float], None]


class Watch(tune.Callback):
    """Passes progress on, and writes the record of a trial whose process died before it could."""

    def __init__(self, jobs: dict[str, TrialJob], on_progress: OnProgress) -> None:
        self.jobs, self.on_progress = jobs, on_progress

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that this project never makes: a progress bar has no place there."""
        return {"jobs": self.jobs}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.on_progress(trial.config["key"], min(0.99, float(result.get("share", 0.0))))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.on_progress(trial.config["key"], 1.0)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        key = trial.config["key"]
        job = self.jobs[key]
        if job.spec.digest not in store.completed(Path(job.run)):  # a process may die after its record is written
            record_failure(job, error_of(trial))
        self.on_progress(key, 1.0)


def error_of(trial: Any) -> str:
    """What Ray wrote of a failure, in its own words."""
    if not trial.error_file:
        return "Ray gives no reason"
    return Path(trial.error_file).read_text().strip()
