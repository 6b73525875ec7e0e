"""A search on Ray Tune: samples by our own draw or by Optuna, stopped early by ASHA; a worker trains one at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from bench.launch.client import run_there, through_client
from bench.launch.resources import nodes, resources, slots
from bench.launch.storage import storage
from bench.launch.watch import error_of, look_at_ray
from bench.stopping import Stop
from bench.tuning.sample import attempt
from bench.tuning.samples import OnSample, Sample, State
from bench.tuning.search import ETA, Search, Wish
from bench.tuning.space import Space

#: A share of a sample that is worth a report between two rungs: each report waits for the driver.
_TOLD = 0.05


def run_search(
    search: Search,
    wish: Wish,
    todo: Sequence[Sample],
    before: Sequence[Sample],
    max_concurrent: int,
    on_sample: OnSample,
    stop: Stop,
) -> None:
    """Run samples to their ends. before are those that ended earlier: the search goes on from what they showed.

    Ray must be running. Where Optuna chooses, samples get their values as they start. RayGone where Ray itself died,
    Terminated once a stop was asked for, KeyboardInterrupt after Ctrl-C: no sample has a checkpoint to wait for.
    """
    stop.without_grace()  # and no exception from a signal: Ray's own code would turn it into another
    if through_client():
        return run_there(_on_cluster, on_sample, stop, search, wish, todo, before, max_concurrent)
    return _on_cluster(search, wish, todo, before, max_concurrent, on_sample, stop)


def _on_cluster(
    search: Search,
    wish: Wish,
    todo: Sequence[Sample],
    before: Sequence[Sample],
    max_concurrent: int,
    on_sample: OnSample,
    stop: Stop | None = None,
) -> None:
    there, first = nodes(), search.first
    room = slots(first, there)
    concurrent = min(room, max_concurrent or room)
    chosen = {} if wish.method == "optuna" else {sample.number: sample.values for sample in todo}
    with storage() as place:
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_sample, search=search, chosen=chosen), resources(first, concurrent, there)
            ),
            param_space={"number": tune.grid_search(list(chosen))} if chosen else {},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=concurrent,
                num_samples=1 if chosen else len(todo),
                scheduler=_asha(search.shares, before) if wish.method == "asha" else None,
                search_alg=None if chosen else _optuna(search, before),
            ),
            run_config=tune.RunConfig(storage_path=place, verbose=0, callbacks=[_Listener(todo, on_sample, stop)]),
        )
        with stop.stepwise() if stop else contextlib.nullcontext():
            tuner.fit()


def _sample(config: dict[str, Any], search: Search, chosen: dict[int, dict[str, Any]]) -> None:
    """In a worker. Every report has the last Dice, as Tune asks; `resource` stands at rungs alone, where ASHA compares.

    A sample that is to stop is ended by Tune within its report.
    """
    dice, told = 0.0, 0.0

    def tell(entry: dict[str, Any]) -> None:
        nonlocal dice, told
        if rung := entry.get("rung"):
            dice = rung["dice"]
            entry = entry | {"resource": _resource(search.shares, rung["share"])}
        elif "state" in entry:
            dice = 0.0  # for who chooses the next sample: there is nothing to be had here
        elif entry["share"] < told + _TOLD:
            return
        told = entry["share"]
        tune.report(entry | {"dice": dice})

    attempt(search, chosen[config["number"]] if chosen else config, tell)


def _resource(shares: Sequence[float], share: float) -> int:
    """ASHA's measure of training: 1 at the first rung, ETA times as much at each next one."""
    return int(ETA ** (sum(share >= rung - 1e-9 for rung in shares) - 1))


def _asha(shares: Sequence[float], before: Sequence[Sample]) -> ASHAScheduler:
    """Successive halving that knows the samples that ended before, as if they had run now."""
    asha = ASHAScheduler("resource", "dice", "max", max_t=_resource(shares, 1.0), reduction_factor=ETA)
    controller = cast(Any, None)  # ASHA never looks at it
    for sample in before:
        trial = cast(Any, SimpleNamespace(trial_id=f"before-{sample.number}"))
        asha.on_trial_add(controller, trial)
        for rung in sample.rungs:
            asha.on_trial_result(controller, trial, {"resource": _resource(shares, rung.share), "dice": rung.dice})
    return asha


def _optuna(search: Search, before: Sequence[Sample]) -> Any:
    """Optuna's sampler (TPE), told of the samples that ended before; a diverged one has a Dice of 0."""
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(
        _domains(search.space),
        metric="dice",
        mode="max",
        seed=search.study.seeds[0] + len(before),  # or it would choose what it has chosen before
        points_to_evaluate=[sample.values for sample in before] or None,
        evaluated_rewards=[0.0 if sample.state is State.DIVERGED else sample.dice for sample in before] or None,
    )


def _domains(space: Space) -> dict[str, Any]:
    return {
        dimension.name: tune.loguniform(*dimension.bounds) if dimension.bounds else tune.choice(list(dimension.values))
        for dimension in space
    }


class _Listener(tune.Callback):
    """Makes samples of what Tune tells, and passes them on."""

    def __init__(self, todo: Sequence[Sample], on_sample: OnSample, stop: Stop | None) -> None:
        self.todo = {sample.number: sample for sample in todo}
        self.samples: dict[str, Sample] = {}
        self.began: dict[str, float] = {}
        self.on_sample, self.stop = on_sample, stop

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that this project never makes."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._now(trial, self._sample(trial), 0.0)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self._now(trial, self._sample(trial).told(result), min(0.99, float(result["share"])))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._now(trial, self._sample(trial).ended(), 1.0)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._now(trial, self._sample(trial).died(error_of(trial)), 1.0)

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        look_at_ray()
        if self.stop:
            self.stop.look()

    def _sample(self, trial: Any) -> Sample:
        """The trial's sample; a process that dies as it comes up is an error without a start."""
        if trial.trial_id not in self.samples:
            # Optuna's takes the first number that is free.
            sample = self.todo.pop(trial.config.get("number", min(self.todo)))
            values = sample.values or dict(trial.config)
            self.samples[trial.trial_id] = replace(sample, values=values)
            self.began[trial.trial_id] = time.monotonic()
        return self.samples[trial.trial_id]

    def _now(self, trial: Any, sample: Sample, share: float) -> None:
        seconds = time.monotonic() - self.began[trial.trial_id]
        self.samples[trial.trial_id] = replace(sample, seconds=round(seconds, 2))
        self.on_sample(self.samples[trial.trial_id], share)
