"""Ray's own callbacks for experiment trackers (see `bench.trackers`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from bench.launch.told import held_out_dice
from bench.progress import to_stderr
from results.record import TrialResult
from results.store import key_path, read_file


class Forgiving(tune.Callback):
    """Another callback whose errors are told, once, and end nothing: a tracker's server may go down in the night.

    It is also told the outcome, of which a trial reports nothing to Tune: every report waits for the driver.
    """

    def __init__(self, name: str, inner: tune.Callback, run: Path) -> None:
        self.name, self.inner, self.run, self.told = name, inner, run, False
        self._before = dict[str, int]()

    def _pass(self, hook: str, *args: Any, **given: Any) -> None:
        self._forgiven(lambda: getattr(self.inner, hook)(*args, **given))

    def _forgiven(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if not self.told:
                to_stderr(f"--log {self.name}: {error}; the run goes on without it")
            self.told = True

    def setup(self, *args: Any, **given: Any) -> None:
        self._pass("setup", *args, **given)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **given: Any) -> None:
        self._before.setdefault(trial.trial_id, _written(self._record(trial)))
        self._pass("on_trial_start", iteration=iteration, trials=trials, trial=trial, **given)

    def on_trial_result(self, *args: Any, **given: Any) -> None:
        self._pass("on_trial_result", *args, **given)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **given: Any) -> None:
        self._forgiven(lambda: self._tell_outcome(iteration, trials, trial))
        self._pass("on_trial_complete", iteration=iteration, trials=trials, trial=trial, **given)

    def _tell_outcome(self, iteration: int, trials: list[Any], trial: Any) -> None:
        path = self._record(trial)
        if _written(path) > self._before.get(trial.trial_id, 0):  # a trial that stopped may have an older one
            number = trial.last_result.get("training_iteration", 0) + 1
            result = trial.last_result | outcome(read_file(path)) | {"training_iteration": number}
            self.inner.on_trial_result(iteration=iteration, trials=trials, trial=trial, result=result)

    def _record(self, trial: Any) -> Path:
        return key_path(self.run / "trials", trial.config["key"], ".json")

    def on_trial_error(self, *args: Any, **given: Any) -> None:
        self._pass("on_trial_error", *args, **given)

    def on_experiment_end(self, *args: Any, **given: Any) -> None:
        self._pass("on_experiment_end", *args, **given)


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def outcome(record: TrialResult) -> dict[str, float]:
    """What a record says at its end: the last entry of its curve, and the mean Dice of held-out cases if it has one."""
    dice = held_out_dice(record)
    found = {} if dice is None else {"held_out_dice": dice}
    return (record.curve[-1] if record.curve else {}) | found | {"share": 1.0}


def callbacks(name: str, run: Path) -> list[tune.Callback]:
    """The callback that tells a tracker what trials report; none where no tracker is named.

    MLflow writes to MLFLOW_TRACKING_URI, else into `RUN/mlflow.db`; W&B to the project of WANDB_PROJECT, else of the
    run's name.
    """
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run / 'mlflow.db'}"
        return [Forgiving(name, MLflowLoggerCallback(tracking_uri=where, experiment_name=run.name), run)]
    if name == "wandb":
        from ray.air.integrations.wandb import WandbLoggerCallback

        project = os.environ.get("WANDB_PROJECT") or run.name
        return [Forgiving(name, WandbLoggerCallback(project=project, group=run.name, dir=str(run)), run)]
    return []
