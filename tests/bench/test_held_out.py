"""Held-out cases are shared out among a trial's workers, and what comes of it is what one worker finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import plan, preflight
from bench.held_out import dealt
from bench.study import StudySpec
from bench.trial import TrialJob, attempt, attempt_together
from results import store
from results.record import Status, TrialResult
from tests.bench.test_engine import free_port
from tests.bench.test_trial import SMALL


@given(st.lists(st.integers(1, 10**6), max_size=40), st.integers(1, 8))
def test_each_case_is_dealt_once_and_no_worker_has_much_more_than_another(sizes, workers):
    shares = dealt(sizes, workers)
    assert len(shares) == workers and sorted(number for share in shares for number in share) == list(range(len(sizes)))
    loads = [sum(sizes[number] for number in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def in_a_group(rank: int, workers: int, port: int, job: TrialJob) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, rank=rank, world_size=workers)
    assert (attempt_together(job, lambda entry, share: None) is None) == (rank > 0)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("zero_stage", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_that_share_the_cases_leave_the_record_of_one(make_task, tmp_path, zero_stage):
    """At ZeRO stage 3 a forward pass needs all ranks, and here they have different numbers of windows."""
    make_task(tmp_path / "data", cases=11)  # three are held out
    settings = SMALL | {"model": SMALL["model"] | {"dropout": 0.0}}
    arms = {"settings": settings, "data": str(tmp_path / "data")}
    together = one_job(StudySpec(**arms, out=str(tmp_path / "together")))
    together = replace(together, workers=2, zero_stage=zero_stage)
    torch.multiprocessing.spawn(in_a_group, (2, free_port(), together), nprocs=2)
    alone = attempt(one_job(StudySpec(**arms, out=str(tmp_path / "alone"))), lambda entry, share: None)
    (shared,) = store.read(tmp_path / "together")
    assert alone.cost["trainable_parameters"] == shared.cost["trainable_parameters"] > 0
    assert [(case.case, case.label) for case in shared.cases] == [(case.case, case.label) for case in alone.cases]
    for ours, theirs in zip(shared.cases, alone.cases, strict=True):
        assert abs(ours.tp - theirs.tp) <= 0.01 * (theirs.tp + theirs.fn) + 2  # sums of two halves round otherwise
    pictures = [picture(record, tmp_path / name) for record, name in ((shared, "together"), (alone, "alone"))]
    assert pictures[0].keys() == pictures[1].keys()
    for name in (name for name in pictures[0] if not name.startswith(("prediction", "labels"))):
        assert (pictures[0][name] == pictures[1][name]).all(), name
    assert (tmp_path / "together" / shared.provenance["model"]["file"]).is_file()


@pytest.mark.slow
def test_a_prediction_that_is_no_number_is_every_workers_and_recorded_once(make_task, tmp_path):
    """The last step leaves weights that no loss has shown: only whose case it is notices."""
    make_task(tmp_path / "data", cases=11)
    settings = SMALL | {"train": SMALL["train"] | {"steps": 1, "epochs": 1, "lr": 1e38, "warmup": 0.0}}
    job = replace(
        one_job(StudySpec(settings=settings, data=str(tmp_path / "data"), out=str(tmp_path / "run"))), workers=2
    )
    torch.multiprocessing.spawn(in_a_group, (2, free_port(), job), nprocs=2)
    (record,) = store.read(tmp_path / "run")
    assert record.status is Status.DIVERGED and "is not a number" in record.error


def one_job(study: StudySpec) -> TrialJob:
    (job,) = plan.expand(study, preflight.check(study, lambda text: None))
    return job


def picture(record: TrialResult, run) -> dict[str, np.ndarray]:
    with np.load(run / "previews" / f"{record.spec.key}.npz", allow_pickle=False) as found:
        return dict(found)
