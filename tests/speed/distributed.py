"""Many trials, many workers: what Ray and the suite take beside the trials' own training and scoring."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from tests.speed.harness import Reading, alone, alternate, fresh, measurement, say, value
from tests.speed.reports import peak

ROOT = Path(__file__).parents[2]
#: Of the demo's trials, and of a part of it: what the further ones take is the difference.
DEMO = ("--backbones", "llama3,mistral")
FEW = ("Task02_Heart", "Task06_Lung", "Task09_Spleen", "Task10_Colon")
CORES = 2
SLACK, OVERHEAD = 1.25, 1.0
#: On one core this trains for more than a minute, of a batch that is worth being shared.
LONG = ("--backbones", "none", "--tasks", "Task02_Heart", "--steps", "150", "--set", "train.batch=8")
FASTER = 1.6
PLANNED = ("--backbones", "llama3,mistral,gpt2,smollm2", "--seeds", ",".join(map(str, range(20))))
FINISHED, SEEDS = 10_000, 251
MANY = ("--backbones", "llama3,mistral,gpt2", "--seeds", ",".join(map(str, range(SEEDS))))


@functools.cache
def cache() -> tempfile.TemporaryDirectory[str]:
    """A cache folder with the phantom in it; it goes with the process."""
    made = tempfile.TemporaryDirectory(prefix="bench-speed-cache-")
    say("  drawing the phantom")
    bench("plan", "--backbones", "none", where=Path(made.name), cache_in=made.name)
    return made


def bench(*arguments: str, where: Path, cache_in: str = "") -> list[tuple[float, str]]:
    """`python -m bench …`: each line that it printed, with the seconds since its start; its end is the last one."""
    env = os.environ | {"BENCH_CACHE": cache_in or cache().name, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    start = time.perf_counter()
    command = [sys.executable, "-m", "bench", *arguments]
    with subprocess.Popen(
        command, cwd=where, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as going:
        assert going.stdout is not None
        told = [(time.perf_counter() - start, line.rstrip()) for line in going.stdout]
    if going.returncode:
        raise RuntimeError("\n".join([" ".join(command), *(line for _, line in told)]))
    return [*told, (time.perf_counter() - start, "")]


def when(told: Sequence[tuple[float, str]], words: str) -> float:
    """The moment of the first line with these words."""
    return next(moment for moment, line in told if words in line)


@dataclass(frozen=True)
class Ran:
    """A run: seconds until its trials were done, of Ray's start in them, in all; and each trial's own."""

    trials: float
    start: float
    whole: float
    own: tuple[float, ...]


def ran(*arguments: str) -> Ran:
    """A run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-speed-run-") as where:
        told = bench("run", *arguments, "--out", "run", where=Path(where))
        records = [json.loads(path.read_text()) for path in Path(where, "run", "trials").rglob("*.json")]
    costs = [record["cost"] for record in records]
    own = tuple(cost["train_seconds"] + cost["score_seconds"] for cost in costs)
    starting = when(told, "Ray dashboard") - when(told, "starting Ray")
    found = Ran(when(told, "writing the report"), starting, told[-1][0], own)
    say(f"  {len(own)} trials in {found.trials:.1f} s, {sum(own):.1f} s of their own, Ray's start {starting:.1f} s")
    return found


@functools.cache
def demos(runs: int) -> list[tuple[Ran, Ran]]:
    """The demo, and a part of it, in turns; both measurements read the same ones."""
    return [(ran(*DEMO), ran(*DEMO, "--tasks", ",".join(FEW))) for _ in range(runs)]


def allowed(demo: Ran) -> float:
    return SLACK * sum(demo.own) / CORES + demo.start


@measurement(
    "demo-30-trials",
    f"the demo's 30 trials, from the command on: at most {SLACK} × their own time ÷ {CORES} cores, and Ray's start",
    None,
    None,
    of="ours",
)
def demo_wall(runs: int) -> Reading:
    wholes = [whole for whole, _ in demos(runs)]
    own = median(sum(whole.own) for whole in wholes)
    note = (
        f"training and scoring {own:.4g} s, Ray's start {median(w.start for w in wholes):.3g} s; "
        f"with the report {median(w.whole for w in wholes):.4g} s"
    )
    cores = len(os.sched_getaffinity(0))
    undecided = "" if cores == CORES else f"the bar is of {CORES} cores, and this machine has {cores}"
    return Reading(median(w.trials for w in wholes), None, note, undecided, bar=median(map(allowed, wholes)))


@measurement(
    "trial-overhead", "a further trial: at most 1 s beside its training and scoring", None, OVERHEAD, of="ours"
)
def trial_overhead(runs: int) -> Reading:
    return Reading(median(overhead(whole, few) for whole, few in demos(runs)))


def overhead(whole: Ran, few: Ran) -> float:
    """Core seconds a trial that the further trials took beside their own."""
    more = (whole.trials - whole.start) - (few.trials - few.start)
    return (CORES * more - (sum(whole.own) - sum(few.own))) / (len(whole.own) - len(few.own))


def trial_of(workers: int) -> float:
    """Seconds of training and scoring of one long trial on so many gloo workers with a core each."""
    return ran(*LONG, "--workers-per-trial", str(workers), "--cpus-per-worker", "1").own[0]


@measurement(
    "two-workers",
    "two gloo workers with a core each, same global batch: a trial of a minute trains and scores 1.6 times as fast",
    "the same trial on one worker with one core",
    1 / FASTER,
)
def two_workers(runs: int) -> Reading:
    two, one = alternate(lambda: trial_of(2), lambda: trial_of(1), runs, gauge=value, warm=False)
    short = "" if one >= 60 else f"the bar is of a trial of 60 s or more, and this one took {one:.3g} s on one worker"
    return Reading(two, one, "beside Ray's start and until the workers have found each other", short)


@measurement("plan-1000-trials", "`bench plan` of 1,000 trials on the phantom: at most 2 s", None, 2.0, of="ours")
def plan_trials(runs: int) -> Reading:
    with tempfile.TemporaryDirectory(prefix="bench-speed-plan-") as where:

        def planned() -> None:
            told = bench("plan", *PLANNED, where=Path(where))
            assert any(re.match("1000 trials, 0 complete", line) for _, line in told), told

        return Reading(alone(planned, runs))


@functools.cache
def finished() -> tempfile.TemporaryDirectory[str]:
    """A run folder with 10,000 finished records of a plan with a few more; no model was trained for them."""
    made = tempfile.TemporaryDirectory(prefix="bench-speed-finished-")
    cache()
    say(f"  generating {FINISHED:,} records")
    fresh(__name__, "write_finished", made.name, cache().name)
    return made


def write_finished(where: str, cache_in: str) -> int:
    """In a process of its own: the records of `MANY` but for the last few trials, with their plan."""
    os.environ["BENCH_CACHE"] = cache_in
    from bench import plan, preflight
    from bench.study import StudySpec, bind
    from results import store

    study = StudySpec(backbones=tuple(MANY[1].split(",")), seeds=tuple(range(SEEDS)), out=f"{where}/run")
    jobs = plan.expand(study, preflight.check(study, lambda line: None))
    study.run.mkdir()
    plan.remember(study.run, [job.spec for job in jobs])
    bind(study, study.run)
    like, cases = one_record()
    for job in jobs[:FINISHED]:
        record = replace(like, spec=job.spec, task=job.info)
        path = store.record_path(study.run, record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_json().replace('"cases": []', cases, 1))
    assert store.read(study.run)[0].cases  # what was put together by hand is a record
    return len(jobs)


def one_record() -> tuple[Any, str]:
    """A record without its cases, and the text of the cases of one with 50 × 2 of them."""
    from tests.results.large_run import Size, records

    whole = next(records(Size(tasks=1, arms=1, seeds=1, folds=1)))
    text = whole.to_json()
    return replace(whole, cases=()), text[text.index('"cases"') : text.index(',\n "cost"')]


@functools.cache
def taken_up(runs: int) -> list[dict[str, float]]:
    """What `take_up` told, once a run; both measurements read the same ones."""
    told = []
    for _ in range(runs):
        told.append(fresh(__name__, "take_up", finished().name, cache().name))
        one = told[-1]
        say(f"  {one['seconds']:.3g} s, Ray's start of {one['start']:.3g} s in them, {one['peak'] / 1e6:.0f} MB")
    return told


def take_up(where: str, cache_in: str) -> None:
    """In a process of its own, `bench run` until it hands its trials to Ray: seconds, Ray's start, peak of memory.

    Ray's start lies beside the reading of records: the seconds are of the whole.
    """
    os.environ["BENCH_CACHE"] = cache_in
    sys.argv = ["bench", "run", *MANY, "--out", f"{where}/run"]
    from bench import cli, launch
    from bench.launch import jobs

    starts = []
    start = launch.start

    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        made = start(*given, **named)
        starts.append(time.perf_counter() - began)
        return made

    def stop_here(*given: Any, **named: Any) -> None:
        found = {"seconds": alive(), "start": starts[0], "peak": peak()}
        launch.stop()
        print(json.dumps(found), flush=True)
        os._exit(0)

    launch.start, jobs.run = timed, stop_here
    cli.main()


def alive() -> float:
    """Seconds since this process was made, its imports among them.

    Not by psutil's create_time, which is off by up to a second: the moment of boot is told in whole ones.
    """
    after_the_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    born = int(after_the_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - born


_MANY = f"taking up a run with {FINISHED:,} finished records, until its trials are handed to Ray"


@measurement("take-up-10000", f"{_MANY}: under 5 s, Ray's start among them", None, 5.0, of="ours")
def take_up_time(runs: int) -> Reading:
    start = median(one["start"] for one in taken_up(runs))
    note = f"since the process was made; {start:.3g} s of it in Ray's start, while records are read"
    return Reading(median(one["seconds"] for one in taken_up(runs)), None, note)


@measurement("take-up-10000-memory", f"{_MANY}: under 500 MB", None, 500_000_000, of="ours", unit="bytes")
def take_up_memory(runs: int) -> Reading:
    return Reading(median(one["peak"] for one in taken_up(runs)))
