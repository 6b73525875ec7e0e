"""The main job: plan, launch what is missing, report. Returns an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from bench import estimate, plan, preflight
from bench.errors import INTERRUPTED
from bench.preflight import Ground
from bench.progress import TrialProgress, to_stderr
from bench.study import StudyError, StudySpec, bind, check_bound
from bench.trial import TrialJob
from results import store
from results.arms import arm_key, arm_names, titles


def run_study(study: StudySpec, console: Console) -> int:
    """Run what is not complete, then write results and report.

    0 when all planned trials of the command are complete, 1 when some failed, 130 after Ctrl-C. StudyError for bad
    input, before the first trial.
    """
    ground = preflight.check(study, console.log if console.is_terminal else to_stderr)
    jobs = plan.expand(study, ground)
    run = study.run
    if run.exists() and not run.is_dir():
        raise StudyError(f"--out {run}: is a file; give a folder")
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / ".lock", timeout=0):
            check_bound(study, run)
            plan.remember(run, [job.spec for job in jobs])
            plan.save_splits(study, ground, run)
            bind(study, run)
            return _run_missing(run, jobs, study, ground, console)
    except Timeout:
        raise StudyError(
            f"{run}: another `bench run` is at work in this folder; wait for it or use another --out"
        ) from None


def _run_missing(run: Path, jobs: list[TrialJob], study: StudySpec, ground: Ground, console: Console) -> int:
    done, past = estimate.take_stock(run)
    todo = [job for job in jobs if job.spec.digest not in done]
    todo = estimate.longest_first(todo, estimate.durations(todo, ground.checks, past, estimate.Room.here(study)))
    _say_ground(jobs, todo, ground.notices, console)
    if not todo:
        console.print(f"nothing to run: {len(jobs)} of {len(jobs)} trials are complete")
    interrupted = bool(todo) and not _launch(todo, study, console)
    page = run / "report" / "index.html"
    if any((run / "trials").rglob("*.json")) and (todo or _older(page, run)):
        console.print("writing the report …")
        page = write_outputs(run)
    missing = _say_end(run, page, jobs, study.command, console)
    return INTERRUPTED if interrupted else int(bool(missing))


def _launch(todo: list[TrialJob], study: StudySpec, console: Console) -> bool:
    """Run the trials on Ray; False if Ctrl-C ended it. What is complete by then is kept."""
    from bench import launch

    console.print(f"joining Ray at {study.address} …" if study.address else "starting Ray …", highlight=False)
    try:
        console.print(f"Ray dashboard: {launch.start(address=study.address, gpus=study.gpus_per_worker)}")
        if study.address:
            for line in launch.look_at_nodes(todo):
                console.print(line, highlight=False, markup=False)
        names = titles(job.spec for job in todo)
        with TrialProgress({job.spec.key: names[job.spec.digest] for job in todo}, console) as progress:
            launch.run(todo, progress.update, study.max_concurrent)
    except KeyboardInterrupt:
        console.print("stopped; complete trials are kept, the same command goes on from here")
        return False
    finally:
        launch.stop()
    return True


def write_outputs(run: Path, profile: str = "paper") -> Path:
    """results.csv, results.parquet and the report of a run folder; returns the page."""
    from reports.build import write_report

    return write_report(run, expected=plan.expected(run), profile=profile)


def _say_ground(jobs: list[TrialJob], todo: list[TrialJob], left_out: Iterable[str], console: Console) -> None:
    tasks = {job.spec.task for job in jobs}
    names = arm_names(job.spec for job in jobs)
    arms = list(dict.fromkeys(names[arm_key(job.spec)] for job in jobs))
    console.print(
        f"tasks: {len(tasks)}; arms: {', '.join(arms)}; {len(jobs)} trials, {len(todo)} to run", highlight=False
    )
    for notice in (*left_out, *dict.fromkeys(job.info.notice for job in jobs if job.info.notice)):
        console.print(notice, style="yellow", highlight=False, markup=False)


def _say_end(run: Path, page: Path, jobs: list[TrialJob], command: str, console: Console) -> int:
    """The last lines: what is complete, what is not and why, how to go on. Returns how many trials are not complete."""
    done = store.completed(run)
    errors = {record.spec.digest: record.error for record in store.failed(run)}
    missing = [job.spec for job in jobs if job.spec.digest not in done]
    console.print(f"{len(jobs) - len(missing)} of {len(jobs)} trials complete; report: {page}", highlight=False)
    names = titles(job.spec for job in jobs)
    for spec in missing:
        if spec.digest in errors:
            last = (errors[spec.digest].splitlines() or ["unknown"])[-1]
            console.print(f"failed: {names[spec.digest]}: {last}", style="red", highlight=False, markup=False)
    if unrun := sum(spec.digest not in errors for spec in missing):
        console.print(f"not run: {unrun} trials", highlight=False)
    if missing:
        console.print(f"to run what is missing: {command}", highlight=False, markup=False)
    return len(missing)


def _older(page: Path, run: Path) -> bool:
    """True if a record has come since the page was written, or there is no page: its writing was interrupted."""
    if not page.exists():
        return True
    return any(path.stat().st_mtime > page.stat().st_mtime for path in (run / "trials").rglob("*.json"))
