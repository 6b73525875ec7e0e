"""What the tests of `bench predict` share: a run that is trained, and what is read of its cases and predictions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from bench import plan
from bench.data.cases import Case
from bench.data.folder import open_task
from bench.study import StudySpec, bind
from bench.trial import TrialJob, attempt
from results.record import Status, TrialResult
from tests.bench import trial_room
from tests.conftest import write_task

SMALL = trial_room.SMALL | {"train": {"steps": 6, "epochs": 2}}


def trained(study: StudySpec, *controls: str) -> list[tuple[TrialJob, TrialResult]]:
    """The study's trials and their records, or those of some controls alone."""
    jobs = [job for job in trial_room.jobs_of(study) if not controls or job.spec.control in controls]
    study.run.mkdir(parents=True, exist_ok=True)
    plan.remember(study.run, [job.spec for job in jobs])
    bind(study, study.run)
    done = [(job, attempt(job, lambda entry, share: None)) for job in jobs]
    assert [record.status for _, record in done] == [Status.COMPLETE] * len(done), [record.error for _, record in done]
    return done


def cases_of(job: TrialJob) -> dict[str, Case]:
    return {case.id: case for case in open_task(Path(job.data), job.spec.task).cases}


def written(done: subprocess.CompletedProcess[str]) -> list[Path]:
    """The predictions that a command says it has written."""
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr + done.stdout
    return [Path(line) for line in done.stdout.splitlines()]


def counts(prediction: np.ndarray, reference: np.ndarray, value: int) -> tuple[int, int, int]:
    """Voxels of a class: true positive, false positive, false negative."""
    p, r = prediction == value, reference == value
    return int((p & r).sum()), int((p & ~r).sum()), int((~p & r).sum())


def image_of(case: Case) -> Path:
    return case.images[0]


def one_trained(root: Path) -> tuple[Path, TrialJob, TrialResult]:
    """A run with one trial over two channels and two labels, mirrored along x, several windows at a time."""
    write_task(root / "data", channels=("T1", "T2"), size=22, spacing=(1.0, 2.0, 1.5))
    settings = SMALL | {"data": {"max_voxels": 14**3, "overlap": 0.4, "mirror": "x", "windows": 3}}
    study = StudySpec(data=str(root / "data"), settings=settings, out=str(root / "run"))
    ((job, record),) = trained(study)
    return study.run, job, record
