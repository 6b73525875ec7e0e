"""What the tests of trials share: settings of a small model, a study's jobs, and what a job holds out."""

from __future__ import annotations

from pathlib import Path

from bench import plan, preflight
from bench.data.folder import open_task
from bench.data.splits import make_split
from bench.study import StudySpec
from bench.trial import TrialJob

SMALL = {
    "train": {"steps": 4, "epochs": 2},
    "model": {"image": (16, 16, 16), "width": 16, "depth": 2, "heads": 2},
}


def jobs_of(study: StudySpec) -> list[TrialJob]:
    return plan.expand(study, preflight.check(study, lambda text: None))


def held_out(job: TrialJob) -> tuple[str, ...]:
    """The cases that a job is scored on."""
    return make_split(open_task(Path(job.data), job.spec.task).cases, job.spec.fold).held_out
