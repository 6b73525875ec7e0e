"""What `bench plan` prints. Nothing here runs a trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import budget, estimate, plan, preflight, work
from bench.estimate import Duration, Room
from bench.holder import check_place
from bench.progress import duration, to_stderr
from bench.study import StudyError, StudySpec, check_bound
from bench.trial import TrialJob
from results.arms import arm_key, arm_names


def require_run(run: Path) -> Path:
    """The folder itself, if a study was ever run in it."""
    if not (run / plan.FILE).exists():
        raise StudyError(f"{run}: is no run folder (it has no {plan.FILE}); give a folder that `bench run` made")
    return run


def show_plan(study: StudySpec, console: Console) -> None:
    """A row a task and arm: cases, block, budget, work and time of a trial, and how many trials are complete."""
    check_place(study.run)
    check_bound(study, study.run)
    ground = preflight.check(study, to_stderr)
    jobs = plan.expand(study, ground)
    past = estimate.Past.of_run(study.run)
    done, wild = past.done, set() if study.retry_diverged else past.diverged
    past.look_beside(study.run, (job.spec for job in jobs))
    room = estimate.Room.here(study)
    took = estimate.durations(jobs, ground.checks, past, room)
    console.print(_plan_table(jobs, done, ground, took))
    todo = [job for job in jobs if job.spec.digest not in done | wild]
    for notice in ground.notices:
        console.print(notice, style="yellow", highlight=False, markup=False)
    if todo:
        console.print(_expected([took[job.spec.digest] for job in todo], room, study), highlight=False)
    complete = sum(job.spec.digest in done for job in jobs)
    ended = len(jobs) - len(todo) - complete
    told = f", {ended} diverged" if ended else ""
    console.print(f"{len(jobs)} trials, {complete} complete{told}, {len(todo)} to run; run folder: {study.run}")


def _plan_table(jobs: list[TrialJob], done: set[str], ground: preflight.Ground, took: Mapping[str, Duration]) -> Table:
    columns = ("task", "arm", "weights", "training / held-out cases", "block parameters", "budget", "work", "a trial")
    table = Table(*columns, "complete")
    groups: dict[tuple[str, str], list[TrialJob]] = {}
    names = arm_names(job.spec for job in jobs)
    for job in jobs:
        groups.setdefault((job.spec.task, names[arm_key(job.spec)]), []).append(job)
    for (task, arm), members in groups.items():
        first, infos = members[0], [job.info for job in members]
        sides = ([info.training_cases for info in infos], [info.held_out_cases for info in infos])
        table.add_row(
            task,
            arm,
            first.spec.weights.label,
            " / ".join(map(_span, sides)),
            f"{work.block_parameters(first):,}",
            budget.words(first.spec.train),
            _operations(work.of_trial(first, ground.checks[task]).total),
            _taking(took[first.spec.digest]),
            f"{sum(job.spec.digest in done for job in members)} of {len(members)}",
        )
    return table


def _operations(number: int) -> str:
    """`3.2 TFLOP`."""
    power = min(5, max(0, (len(str(number)) - 1) // 3))
    return f"{number / 1000**power:.3g} {('', 'k', 'M', 'G', 'T', 'P')[power]}FLOP"


def _taking(one: Duration) -> str:
    if one.how == "unknown":
        return "unknown"
    return duration(one.seconds) if one.how == "measured" else f"~{duration(one.seconds)}"


def _expected(took: list[Duration], room: Room, study: StudySpec) -> str:
    """The line on hours: how long all of it takes, on what, and how well that is known."""
    how = Counter(one.how for one in took)
    if how["unknown"]:
        return (
            "expected: unknown; nothing was measured on a GPU yet, and a guess from work alone would be worth nothing"
        )
    seconds = sorted((one.seconds for one in took), reverse=True)
    known = {
        "measured": "trials as measured before",
        "scaled": "scaled from measured ones",
        "estimated": "estimated from their work, which may be off by a factor of three",
    }
    told = ", ".join(f"{how[name]} {words}" for name, words in known.items() if how[name])
    places = f"{room.trials} trials at a time" if room.trials > 1 else "one trial at a time"
    if study.address:
        places += f" (the cluster at {study.address} was not asked; --max-concurrent says how many)"
    return (
        f"expected: {duration(estimate.makespan(seconds, room.trials))} with {places}, {duration(sum(seconds))} of "
        f"trials in all, beside Ray's start and the report; {told}"
    )


def _span(values: Iterable[int]) -> str:
    """`4`, or `4–5` where folds or fractions differ."""
    found = sorted(set(values))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
