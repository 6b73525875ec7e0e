"""Ray's own callbacks for experiment trackers (see `bench.trackers`)."""

from __future__ import annotations

import os
from pathlib import Path

from ray import tune


def callbacks(name: str, run: Path) -> list[tune.Callback]:
    """The callback that tells a tracker what trials report; none where no tracker is named.

    MLflow writes to MLFLOW_TRACKING_URI, else into `RUN/mlflow.db`; W&B to the project of WANDB_PROJECT, else of the
    run's name.
    """
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run / 'mlflow.db'}"
        return [MLflowLoggerCallback(tracking_uri=where, experiment_name=run.name)]
    if name == "wandb":
        from ray.air.integrations.wandb import WandbLoggerCallback

        return [WandbLoggerCallback(project=os.environ.get("WANDB_PROJECT") or run.name, dir=str(run))]
    return []
