"""What `bench plan` prints. Nothing here runs a trial."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

import backbones
from bench import budget, plan, preflight
from bench.progress import to_stderr
from bench.study import StudyError, StudySpec, check_bound
from results import store
from results.arms import arm_key, arm_names


def require_run(run: Path) -> Path:
    """The folder itself, if a study was ever run in it."""
    if not (run / plan.FILE).exists():
        raise StudyError(f"{run}: is no run folder (it has no {plan.FILE}); give a folder that `bench run` made")
    return run


def show_plan(study: StudySpec, console: Console) -> None:
    """A row a task and arm: cases, block, budget, and how many trials are complete."""
    check_bound(study, study.run)
    ground = preflight.check(study, to_stderr)
    jobs = plan.expand(study, ground)
    done = store.completed(study.run) if study.run.exists() else set()
    wild = store.diverged(study.run) if study.run.exists() and not study.retry_diverged else set()
    table = Table("task", "arm", "weights", "training / held-out cases", "block parameters", "budget", "complete")
    groups: dict[tuple[str, str], list[plan.TrialJob]] = {}
    names = arm_names(job.spec for job in jobs)
    for job in jobs:
        groups.setdefault((job.spec.task, names[arm_key(job.spec)]), []).append(job)
    for (task, arm), members in groups.items():
        spec, infos = members[0].spec, [job.info for job in members]
        complete = sum(job.spec.digest in done for job in members)
        size = _block_of(members[0])
        sides = ([info.training_cases for info in infos], [info.held_out_cases for info in infos])
        cases = " / ".join(map(_span, sides))
        table.add_row(
            task, arm, spec.weights.label, cases, size, budget.words(spec.train), f"{complete} of {len(members)}"
        )
    console.print(table)
    complete = sum(job.spec.digest in done for job in jobs)
    lost = sum(job.spec.digest in wild for job in jobs)
    for notice in ground.notices:
        console.print(notice, style="yellow", highlight=False, markup=False)
    counts = f"{complete} complete, " + (f"{lost} diverged, " if lost else "")
    console.print(f"{len(jobs)} trials, {counts}{len(jobs) - complete - lost} to run; run folder: {study.run}")


def _span(values: Iterable[int]) -> str:
    """`4`, or `4–5` where folds or fractions differ."""
    found = sorted(set(values))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"


def _block_of(job: plan.TrialJob) -> str:
    """Parameters of the LLM's block that stands in the arm: none in the baseline and in the controls of capacity."""
    if job.backbone is None or job.spec.control in ("identity", "mlp", "depth"):
        return "0"
    spec = backbones.stand_in(job.backbone) if job.spec.control == "stand-in" else job.backbone
    return f"{backbones.block_parameters(spec):,}"
