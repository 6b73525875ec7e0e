"""Trials on Ray: in the Tune function where one worker trains, in a TorchTrainer begun by it where several do."""

from __future__ import annotations

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from ray import train as ray_train
from ray import tune

from bench.launch import loggers
from bench.launch.client import run_there, through_client
from bench.launch.resources import nodes, resources, scaling, slots
from bench.launch.storage import storage
from bench.launch.told import told
from bench.launch.watch import OnProgress, Watch
from bench.stopping import Stop, Stopped, Terminated, asked
from bench.trial import Report, TrialJob, attempt, attempt_together, record_failure
from results import store

_SECONDS_BETWEEN_REPORTS = 2.0
#: How often a trial whose process died is begun again, from its checkpoint, before it counts as failed.
RETRIES = 2


def run(
    jobs: Sequence[TrialJob],
    on_progress: OnProgress,
    max_concurrent: int = 0,
    stop: Stop | None = None,
    log: str = "",
) -> None:
    """Run every job to its end; each leaves a record, complete or failed. Ray must be running. log: one of `trackers`.

    One worker a trial: inside the Tune function, whose process is used again. Several: a TorchTrainer started by it.
    A trial whose process dies is begun again, from its checkpoint, RETRIES times. Raises Terminated once a stop was
    asked for, and the trials that ran then have ended or their time was up.
    """
    for _ in range(1 + RETRIES):
        if through_client():
            # A stop is asked for by the run folder, which the cluster sees.
            jobs = run_there(_round, on_progress, stop, jobs, max_concurrent, None, log)
            if stop and stop.asked:
                raise Terminated
        else:
            jobs = _round(jobs, max_concurrent, stop, log, on_progress)
        if not jobs:
            return
    for job in jobs:
        record_failure(job, "its process died each time before it could begin")


def _round(
    jobs: Sequence[TrialJob], max_concurrent: int, stop: Stop | None, log: str, on_progress: OnProgress
) -> list[TrialJob]:
    """Run the jobs; returns those whose process died before Tune saw it work, which Tune does not begin again."""
    by_key = {job.spec.key: job for job in jobs}
    first, there = jobs[0], nodes()
    room = slots(first, there)
    concurrent = min(room, max_concurrent or room)
    trainable = tune.with_parameters(_one_worker if first.workers == 1 else _many_workers, jobs=by_key)
    watch = Watch(by_key, on_progress, stop)
    callbacks = [watch, *loggers.callbacks(log, Path(jobs[0].run))]
    with storage() as place:
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources(first, concurrent, there)),
            param_space={"key": tune.grid_search(list(by_key))},
            tune_config=tune.TuneConfig(
                reuse_actors=True, max_concurrent_trials=concurrent, trial_name_creator=_name_of
            ),
            run_config=tune.RunConfig(
                storage_path=place,
                verbose=0,
                callbacks=callbacks,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        )
        with stop.stepwise() if stop else contextlib.nullcontext():
            tuner.fit()
    if watch.unwritable:
        raise watch.unwritable
    return watch.unborn


def _name_of(trial: Any) -> str:
    """How Tune and trackers name a trial; a folder is named by it too."""
    return str(trial.config["key"]).replace("/", "_")


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
    job = jobs[config["key"]]
    if not asked(Path(job.run))():
        with contextlib.suppress(Stopped), told(job, _seldom(tune.report)) as trial:
            trial.ended(attempt(job, trial.report))


def _many_workers(config: dict[str, Any], jobs: dict[str, TrialJob]) -> None:
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from bench.launch.group import NodeTorchConfig

    job = jobs[config["key"]]
    scale = scaling(job)
    # Train wants a folder that the nodes of all workers share, as they do the run folder.
    with tempfile.TemporaryDirectory(prefix=".train-", dir=job.run) as place:
        trainer = TorchTrainer(
            _rank,
            train_loop_config={"job": job},
            torch_config=NodeTorchConfig(backend="nccl" if scale.use_gpu else "gloo"),
            scaling_config=scale,
            run_config=ray_train.RunConfig(
                name=str(tune.get_context().get_trial_id()),
                storage_path=place,
                callbacks=cast(Any, [TuneReportCallback()]),
                failure_config=ray_train.FailureConfig(max_failures=RETRIES),
            ),
        )
        try:
            trainer.fit()
        except ray_train.TrainingFailedError as error:
            _give_up(job, error)


def _give_up(job: TrialJob, error: Exception) -> None:
    """Record what Train has tried often enough; raised, Tune would have it tried as often again.

    Where not even that can be written, `Watch` finds the trial without a record.
    """
    if job.spec.digest not in store.completed(Path(job.run)):
        with contextlib.suppress(OSError):
            record_failure(job, "".join(traceback.format_exception(error)))


def _rank(config: dict[str, Any]) -> None:
    """One of several workers. All must report equally often, so what rank 0 alone does afterwards is not reported."""

    def pass_on(entry: dict[str, Any], share: float) -> None:
        if "loss" in entry:
            ray_train.report(entry | {"share": share})

    job = config["job"]
    if asked(Path(job.run))():
        return
    with contextlib.suppress(Stopped):
        if ray_train.get_context().get_world_rank() > 0:
            attempt_together(job, pass_on)
            return
        with told(job, pass_on) as trial:
            trial.ended(attempt_together(job, trial.report))
