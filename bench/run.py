"""The main job: plan, launch what is missing, report. Returns an exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from bench import driver, estimate, leftovers, on_ray, plan, preflight
from bench.errors import TERMINATED
from bench.holder import check_place, held
from bench.preflight import Ground
from bench.progress import TrialProgress, to_stderr
from bench.status import running_in
from bench.stopping import Stop
from bench.study import StudySpec, bind, check_bound
from bench.trial import TrialJob
from results import store
from results.arms import arm_names, titles
from results.record import Status, digest_of

#: In the report's folder: of which records it was made.
_MADE_FROM = ".made_from"
_KEPT = on_ray.Kept("complete trials are kept", "trials that ran have a checkpoint")


def run_study(study: StudySpec, console: Console) -> int:
    """Run what is not complete, then write results and report.

    0 when all planned trials of the command are complete, 1 when some failed, 130 after Ctrl-C, 143 after SIGTERM.
    StudyError for bad input, before the first trial.
    """
    run = study.run
    check_place(run)
    stop = Stop(run)
    ground = preflight.check(study, console.log if console.is_terminal else to_stderr)
    jobs = plan.expand(study, ground)
    with held(run), stop:
        check_bound(study, run)
        plan.remember(run, [job.spec for job in jobs])
        plan.save_splits(study, ground, run)
        bind(study, run)
        return _run_missing(run, jobs, study, ground, stop, console)


def _run_missing(
    run: Path, jobs: list[TrialJob], study: StudySpec, ground: Ground, stop: Stop, console: Console
) -> int:
    past = functools.cache(lambda: estimate.Past.of_run(run))
    look = functools.cache(lambda: _look(run, jobs, study, ground, past(), console))

    def in_order(todo: list[TrialJob]) -> list[TrialJob]:
        took = estimate.durations(todo, ground.checks, past(), estimate.Room.here(study))
        return estimate.longest_first(todo, took)

    ended = 0
    if _has_no_record(run, jobs) or look():
        ended = on_ray.exit_code(lambda: _run_on_ray(look, in_order, study, stop, console), _KEPT, stop, console)
    if ended == TERMINATED:
        return ended  # there is no time for a report
    todo = look()
    page = run / "report" / "index.html"
    if any((run / "trials").rglob("*.json")) and (todo or not _is_current(page, run)):
        console.print("writing the report …")
        page = write_outputs(run)
    _say_notices(run, todo, console)
    missing = _say_end(run, page, jobs, study.command, console)
    return ended or int(bool(missing))


def _has_no_record(run: Path, jobs: Iterable[TrialJob]) -> bool:
    """Whether a trial surely is to run, by the names of files alone: Ray need not wait until all are read."""
    there = set(store.keys(run))
    return any(job.spec.key not in there for job in jobs)


def _look(
    run: Path, jobs: list[TrialJob], study: StudySpec, ground: Ground, past: estimate.Past, console: Console
) -> list[TrialJob]:
    """What is to run by the records that were read; sweep up after runs that were killed, say what was found.

    Beside Ray's start, which forks: only reading here, and nothing that computes.
    """
    done, wild = past.done, set() if study.retry_diverged else past.diverged
    leftovers.sweep_drafts(run)
    leftovers.sweep(run, done)
    over = done | wild
    todo = [job for job in jobs if job.spec.digest not in over]
    _say_ground(jobs, todo, ground.notices, console)
    if not todo:
        console.print(f"nothing to run: {len(jobs) - _count(jobs, wild)} of {len(jobs)} trials are complete")
    return todo


def _count(jobs: Iterable[TrialJob], digests: set[str]) -> int:
    return sum(job.spec.digest in digests for job in jobs)


def _run_on_ray(
    look: Callable[[], list[TrialJob]],
    in_order: Callable[[list[TrialJob]], list[TrialJob]],
    study: StudySpec,
    stop: Stop,
    console: Console,
) -> None:
    ray, found = on_ray.begin(study, look, _KEPT, stop, console)
    from bench.launch import jobs

    todo = in_order(found)
    told = titles(job.spec for job in todo)
    names = {job.spec.key: told[job.spec.digest] for job in todo}
    progress = TrialProgress(names, console, below=lambda: running_in(study.run, names))
    with driver.at_work(study.run, ray.address, ray.targets), progress:
        stop.trials(True)
        jobs.run(todo, progress.update, study.max_concurrent, stop, study.log)


def write_outputs(run: Path, profile: str = "paper") -> Path:
    """results.csv, results.parquet and the report of a run folder; returns the page."""
    from reports.build import write_report

    made_from = _records_digest(run)
    page = write_report(run, expected=plan.expected(run), profile=profile)
    store.atomic_write(page.parent / _MADE_FROM, made_from.encode())
    return page


def _say_ground(jobs: list[TrialJob], todo: list[TrialJob], left_out: Iterable[str], console: Console) -> None:
    tasks = {job.spec.task for job in jobs}
    arms = dict.fromkeys(arm_names(job.spec for job in jobs).values())
    console.print(
        f"tasks: {len(tasks)}; arms: {', '.join(arms)}; {len(jobs)} trials, {len(todo)} to run", highlight=False
    )
    for notice in (*left_out, *dict.fromkeys(job.info.notice for job in jobs if job.info.notice)):
        console.print(notice, style="yellow", highlight=False, markup=False)


def _say_notices(run: Path, ran: list[TrialJob], console: Console) -> None:
    """What the workers had to tell of trials that were run now, such as a checkpoint that could not be written."""
    names = titles(job.spec for job in ran)
    for record in store.read(run) if ran else ():
        if record.spec.digest in names:
            for notice in record.provenance.get("notices", ()):
                line = f"{names[record.spec.digest]}: {notice}"
                console.print(line, style="yellow", highlight=False, markup=False)


def _say_end(run: Path, page: Path, jobs: list[TrialJob], command: str, console: Console) -> int:
    """The last lines: what is complete, what is not and why, how to go on. Returns how many trials are not complete."""
    done = store.completed(run)
    failed = {record.spec.digest: record for record in store.failed(run)}
    missing = [job.spec for job in jobs if job.spec.digest not in done]
    console.print(f"{len(jobs) - len(missing)} of {len(jobs)} trials complete; report: {page}", highlight=False)
    names = titles(job.spec for job in jobs)
    for spec in missing:
        if record := failed.get(spec.digest):
            last = (record.error.splitlines() or ["unknown"])[-1]
            line = f"{record.status}: {names[spec.digest]}: {last}"
            console.print(line, style="red", highlight=False, markup=False)
    if unrun := sum(spec.digest not in failed for spec in missing):
        console.print(f"not run: {unrun} trials", highlight=False)
    wild = sum(record.status is Status.DIVERGED for record in failed.values())
    if wild:
        console.print(
            f"diverged trials are not run again ({wild}); other settings, or --retry-diverged", highlight=False
        )
    if len(missing) > wild:
        console.print(f"to run what is missing: {command}", highlight=False, markup=False)
    return len(missing)


def _is_current(page: Path, run: Path) -> bool:
    """Whether the report is of the records that are there: its writing may have been interrupted."""
    stamp = page.parent / _MADE_FROM
    return page.exists() and stamp.exists() and stamp.read_text() == _records_digest(run)


def _records_digest(run: Path) -> str:
    return digest_of(sorted((record.spec.digest, record.status) for record in store.read(run)))
