"""The only module that imports Ray: jobs in, finished records on disk out."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

# Set before Ray is imported: it sends usage statistics home otherwise, and prints notices over the progress bar.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune runs each trial in a thread of its own, and glibc gives each thread its own heap and never takes it back: 50 MB
# a trial in a process that serves many. Workers inherit this.
os.environ.setdefault("MALLOC_ARENA_MAX", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import train as ray_train
from ray import tune

from backbones.weights import cache_dir
from bench.study import StudyError
from bench.trial import Report, TrialJob, attempt, record_failure, run_trial
from results import store

#: Called with a trial's key and the share of it that is done; 1.0 once it has ended.
OnProgress = Callable[[str, float], None]
_OBJECT_STORE_BYTES = 256 * 1024**2  # jobs are a few kilobytes; images are read from disk by each worker
_SECONDS_BETWEEN_REPORTS = 2.0


logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by our records, once


def start(cpus: int | None = None) -> str:
    """Start Ray on this machine, listening on 127.0.0.1; returns the dashboard's address."""
    os.environ["BENCH_CACHE"] = str(cache_dir().resolve())  # workers inherit it, and stand in another folder
    context = ray.init(
        num_cpus=cpus or os.cpu_count(),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",  # or Ray listens on the address of the first network card
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    return f"http://{context.dashboard_url}"


def stop() -> None:
    """End every process that start() began."""
    ray.shutdown()


def run(jobs: Sequence[TrialJob], on_progress: OnProgress, max_concurrent: int = 0) -> None:
    """Run every job to its end; each leaves a record, complete or failed. Ray must be running.

    One worker a trial: inside the Tune function, whose process is used again. Several: a TorchTrainer started by it.
    """
    by_key = {job.spec.key: job for job in jobs}
    workers = jobs[0].workers
    slots = _slots(workers)
    concurrent = min(slots, max_concurrent or slots)
    trainable = tune.with_parameters(_one_worker if workers == 1 else _many_workers, jobs=by_key)
    with tempfile.TemporaryDirectory(prefix="bench-tune-") as storage:
        tuner = tune.Tuner(
            tune.with_resources(trainable, _resources(workers, slots // concurrent)),
            param_space={"key": tune.grid_search(list(by_key))},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=concurrent),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[_Watch(by_key, on_progress)]),
        )
        tuner.fit()


def _slots(workers: int) -> int:
    """How many trials of so many workers fit at a time; StudyError if not even one does, which would wait for ever."""
    kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if there < workers:
        raise StudyError(f"--workers-per-trial: {workers} workers need a {kind} each, and there are {there}")
    return there // workers


def _resources(workers: int, cores: int) -> dict[str, float]:
    """What a trial asks for. A lone worker computes on as many cores as trials that were not to run leave it."""
    if workers > 1:
        # The TorchTrainer's workers ask for the cores. Tune refuses an empty request, so it gets one of memory.
        return {"memory": 1024**2}
    return {"cpu": 1, "gpu": 1} if ray.cluster_resources().get("GPU") else {"cpu": cores}


def _seldom(report: Callable[[dict[str, Any]], None]) -> Report:
    """Pass a report on at most every two seconds: each one waits for the driver, a tenth of a second and more."""
    last = 0.0

    def pass_on(entry: dict[str, Any], share: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_REPORTS:
            report(entry | {"share": share})
            last = time.monotonic()

    return pass_on


def _one_worker(config: dict[str, Any], jobs: dict[str, TrialJob]) -> None:
    attempt(jobs[config["key"]], _seldom(tune.report))


def _many_workers(config: dict[str, Any], jobs: dict[str, TrialJob]) -> None:
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    job = jobs[config["key"]]
    gpu = bool(ray.cluster_resources().get("GPU"))
    with tempfile.TemporaryDirectory(prefix="bench-train-") as storage:
        TorchTrainer(
            _rank,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ray_train.ScalingConfig(num_workers=job.workers, use_gpu=gpu),
            run_config=ray_train.RunConfig(
                name=str(tune.get_context().get_trial_id()),
                storage_path=storage,
                callbacks=cast(Any, [TuneReportCallback()]),
            ),
        ).fit()


def _rank(config: dict[str, Any]) -> None:
    """One of several workers. All must report equally often, so what rank 0 alone does afterwards is not reported."""

    def pass_on(entry: dict[str, Any], share: float) -> None:
        if "loss" in entry:
            ray_train.report(entry | {"share": share})

    run_trial(config["job"], pass_on)


class _Watch(tune.Callback):
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
            record_failure(job, _error_of(trial))
        self.on_progress(key, 1.0)


def _error_of(trial: Any) -> str:
    """What Ray wrote of a failure, in its own words."""
    if not trial.error_file:
        return "Ray gives no reason"
    return Path(trial.error_file).read_text().strip()
