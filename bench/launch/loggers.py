"""Ray's own callbacks for experiment trackers (see `bench.trackers`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray import tune

from bench.progress import to_stderr


class Forgiving(tune.Callback):
    """Another callback whose errors are told, once, and end nothing: a tracker's server may go down in the night."""

    def __init__(self, name: str, inner: tune.Callback) -> None:
        self.name, self.inner, self.told = name, inner, False

    def _pass(self, hook: str, *args: Any, **given: Any) -> None:
        try:
            getattr(self.inner, hook)(*args, **given)
        except Exception as error:
            if not self.told:
                to_stderr(f"--log {self.name}: {error}; the run goes on without it")
            self.told = True

    def setup(self, *args: Any, **given: Any) -> None:
        self._pass("setup", *args, **given)

    def on_trial_start(self, *args: Any, **given: Any) -> None:
        self._pass("on_trial_start", *args, **given)

    def on_trial_result(self, *args: Any, **given: Any) -> None:
        self._pass("on_trial_result", *args, **given)

    def on_trial_complete(self, *args: Any, **given: Any) -> None:
        self._pass("on_trial_complete", *args, **given)

    def on_trial_error(self, *args: Any, **given: Any) -> None:
        self._pass("on_trial_error", *args, **given)

    def on_experiment_end(self, *args: Any, **given: Any) -> None:
        self._pass("on_experiment_end", *args, **given)


def callbacks(name: str, run: Path) -> list[tune.Callback]:
    """The callback that tells a tracker what trials report; none where no tracker is named.

    MLflow writes to MLFLOW_TRACKING_URI, else into `RUN/mlflow.db`; W&B to the project of WANDB_PROJECT, else of the
    run's name.
    """
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run / 'mlflow.db'}"
        return [Forgiving(name, MLflowLoggerCallback(tracking_uri=where, experiment_name=run.name))]
    if name == "wandb":
        from ray.air.integrations.wandb import WandbLoggerCallback

        project = os.environ.get("WANDB_PROJECT") or run.name
        return [Forgiving(name, WandbLoggerCallback(project=project, dir=str(run)))]
    return []
