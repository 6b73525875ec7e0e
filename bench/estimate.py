"""How long trials take: by records of such trials, scaled from records of others, or estimated from their work.

Nothing here changes a number; it decides which trial begins first, and what `bench plan` tells of hours.
"""

from __future__ import annotations

import functools
import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import machine, work
from bench.data.check import TaskCheck
from bench.running import Running
from bench.settings import train_settings
from bench.trial import TrialJob
from bench.work import Work
from results import store
from results.arms import arm_key
from results.record import Status, TrialResult, TrialSpec

#: Of the rate of NumPy's matrix product, what a training step reaches: 0.56 on the one machine where it was looked at,
#: with the preset `cpu`. Then seconds: of a step beside its products, of scoring a case and a voxel of it, of a trial
#: beside its training and scoring, and until the workers of a trial have found each other.
_SHARE = 0.5
_STEP, _CASE, _VOXEL, _TRIAL, _GATHER = 0.01, 0.5, 1e-7, 1.0, 30.0
#: Records of other runs that are looked at: those of the latest runs beside this one, a few of each task and arm.
_RUNS, _RECORDS = 5, 3


@dataclass(frozen=True)
class Duration:
    """Seconds of a trial, and how they are known: `measured`, `scaled` from measured ones, or `estimated`.

    Where GPUs compute and nothing was measured yet they only order the trials: how is `unknown`.
    """

    seconds: float
    how: str


@dataclass(frozen=True)
class Room:
    """Trials that run at a time, and on what: cores of a lone worker, whether GPUs compute."""

    trials: int
    threads: int
    gpu: bool

    @classmethod
    def here(cls, running: Running) -> Room:
        """On this machine. A cluster is not known before it is reached: one trial at a time, or as many as asked."""
        cores, gpus, workers = machine.cores(), machine.gpus(), running.workers_per_trial
        share = min(1, gpus) if running.gpus_per_worker is None else running.gpus_per_worker
        each = max(1, running.cpus_per_worker)
        fitting = min(cores // each, int(gpus / share) if share else cores) // workers
        room = max(1, running.max_concurrent if running.address else fitting)
        trials = min(room, running.max_concurrent or room)
        spare = room // trials if workers == 1 and not running.address else 1
        return cls(trials, running.cpus_per_worker or spare, bool(share))


class Past:
    """What trials took before. Reads only heads of records."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, Any], list[TrialResult]] = {}
        self.done, self.diverged = set[str](), set[str]()

    @classmethod
    def of_run(cls, run: Path) -> Past:
        """Of a run folder, with the digests of the trials that are complete, and that diverged; each read once."""
        past = cls()
        for record in store.heads(run):
            past.add(record)
            if record.status is Status.COMPLETE:
                past.done.add(record.spec.digest)
            elif record.status is Status.DIVERGED:
                past.diverged.add(record.spec.digest)
        return past

    def add(self, record: TrialResult) -> None:
        if record.status is Status.COMPLETE and "train_seconds" in record.cost:
            kept = self.seen.setdefault((record.spec.task, arm_key(record.spec)), [])
            if len(kept) < _RUNS * _RECORDS:
                kept.append(replace(record, curve=()))

    def of(self, spec: TrialSpec) -> list[TrialResult]:
        """Records of the same task and arm, whatever their budget."""
        return self.seen.get((spec.task, arm_key(spec)), [])

    def look_beside(self, run: Path, specs: Iterable[TrialSpec]) -> None:
        """A few records of these tasks and arms from the latest runs beside this one."""
        places = {f"{spec.task}/{spec.arm}" for spec in specs}
        others = sorted(run.parent.glob("*/trials"), key=lambda path: path.stat().st_mtime, reverse=True)
        for trials in [path for path in others if path.parent.name != run.name][:_RUNS]:
            for place in places:
                for path in sorted((trials / place).glob("*.json"))[:_RECORDS]:
                    try:
                        self.add(store.read_head(path))
                    except (store.RecordError, OSError):
                        continue  # another run's damage is not this one's to tell


def durations(jobs: Sequence[TrialJob], checks: Mapping[str, TaskCheck], past: Past, room: Room) -> dict[str, Duration]:
    """Digest -> how long the trial takes. Trials that differ in seed or fold alone take as long."""
    groups: dict[tuple[Any, ...], list[TrialJob]] = {}
    for job in jobs:
        spec = job.spec
        groups.setdefault((spec.task, arm_key(spec), work.effort(spec)), []).append(job)
    guess = _Guess(checks, room)
    firsts = [members[0] for members in groups.values()]
    factors = [factor for job in firsts for factor in _factors(job, guess, past, room)]
    found: dict[str, Duration] = {}
    for members in groups.values():
        taken = _duration(members[0], guess, past, room, factors)
        found |= {job.spec.digest: taken for job in members}
    return found


def _duration(job: TrialJob, guess: _Guess, past: Past, room: Room, factors: list[float]) -> Duration:
    like = [
        record
        for record in past.of(job.spec)
        if work.effort(record.spec) == work.effort(job.spec) and _alike(record, job, room)
    ]
    beside = _TRIAL if job.workers == 1 else _GATHER
    if like:
        return Duration(median(_own(record) for record in like) + beside, "measured")
    own = guess.seconds(job)
    if factors:
        return Duration(own * median(factors) + beside, "scaled")
    return Duration(own + beside, "unknown" if room.gpu else "estimated")


def _own(record: TrialResult) -> float:
    return float(record.cost["train_seconds"] + record.cost["score_seconds"])


def _on_gpu(record: TrialResult) -> bool:
    return str(record.provenance.get("device", "cpu")).startswith("cuda")


def _alike(record: TrialResult, job: TrialJob, room: Room) -> bool:
    """Whether it ran as the job will: on as many workers, of the same kind, with as many threads."""
    told = record.provenance
    same = told.get("workers") == job.workers and _on_gpu(record) == room.gpu
    return same and (room.gpu or told.get("threads") == room.threads)


def _factors(job: TrialJob, guess: _Guess, past: Past, room: Room) -> list[float]:
    """Of each record of this task and arm, what it took as a multiple of what would have been guessed of it."""
    found = []
    for record in past.of(job.spec):
        if _on_gpu(record) == room.gpu:
            threads, workers = record.provenance.get("threads", 1), record.provenance.get("workers", 1)
            as_it_was = replace(job, spec=record.spec, info=record.task, workers=workers)
            found.append(_own(record) / guess.seconds(as_it_was, threads))
    return found


class _Guess:
    """Seconds from work, on the cores of this machine."""

    def __init__(self, checks: Mapping[str, TaskCheck], room: Room) -> None:
        self.checks, self.threads, self.rate = checks, room.threads, _SHARE * products_a_second()

    def seconds(self, job: TrialJob, threads: int = 0) -> float:
        """Of training and scoring. Workers share a training step; one of them scores."""
        amount: Work = work.of_trial(job, self.checks[job.spec.task])
        rate = self.rate * (threads or self.threads)
        wall = train_settings(job.spec.train).seconds
        training = wall or amount.steps * (amount.step / rate / job.workers + _STEP)
        native = amount.native * (_VOXEL * len(job.info.labels))
        return training + amount.scoring / rate + job.info.held_out_cases * _CASE + native


@functools.cache
def products_a_second() -> float:
    """Floating-point operations a second of one core in NumPy's matrix product, measured once, in hundredths of one.

    By processor time, which other processes do not lengthen much.
    """
    side = 512
    matrix = np.ones((side, side), dtype=np.float32)
    taken = []
    for _ in range(4):  # the first one starts NumPy's threads
        start = time.process_time()
        matrix @ matrix
        taken.append(time.process_time() - start)
    return 2 * side**3 / max(1e-6, min(taken))


def longest_first(jobs: Sequence[TrialJob], took: Mapping[str, Duration]) -> list[TrialJob]:
    """The order to begin them in, so that no worker is left with a long trial at the end; equal ones stay in order."""
    return sorted(jobs, key=lambda job: -took[job.spec.digest].seconds)


def makespan(seconds: Iterable[float], trials: int) -> float:
    """When the last one ends, if each begins as soon as one of so many places is free, in this order."""
    free = [0.0] * trials
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)
