"""The held-out cases of a trial: shared out among its workers, predicted, scored and pictured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.folder import read_case
from bench.errors import PredictionError
from results.record import CaseScore

if TYPE_CHECKING:
    from bench.data.volumes import PreparedCase
    from bench.preview import Picture
    from bench.trial import Report, TrialJob

#: How much of a trial counts as training, of the share that is done; the rest is scoring.
TRAINING_SHARE = 0.85


@dataclass(frozen=True)
class Scored:
    """One case. activations: the arrays of `bench.activations`, None where it was not looked at."""

    scores: list[CaseScore]
    picture: Picture
    activations: dict[str, Any] | None


def score(
    job: TrialJob, model: Any, held_out: Sequence[PreparedCase], report: Report, rank: int = 0, workers: int = 1
) -> list[CaseScore] | None:
    """Scores of every held-out case on its native grid, in their order; pictures are kept for the report.

    Each worker takes its share, and calls the model by itself; rank 0 returns the scores of all, the others None.
    PredictionError where a prediction is no number: on rank 0, whoever found it, and on whoever did.
    """
    from bench import engine

    seen = sorted(case.id for case in held_out)[: job.activations]
    mine = dealt([math.prod(case.shape) for case in held_out], workers)[rank]
    found: dict[str, Scored] = {}
    wrong: PredictionError | None = None
    try:
        for done, number in enumerate(mine, start=1):
            case = held_out[number]
            found[case.id] = _score_one(job, model, case, case.id in seen)
            report({"scored": done}, TRAINING_SHARE + (1 - TRAINING_SHARE) * done / len(mine))
    except PredictionError as error:
        wrong = error
    every = engine.gathered((found, wrong))
    if problem := wrong or next((other for _, other in every or [] if other), None):
        raise problem
    if every is None:
        return None
    of_case = {case: scored for share, _ in every for case, scored in share.items()}
    _keep_pictures(job, [case.id for case in held_out], seen, of_case)
    return [one for case in held_out for one in of_case[case.id].scores]


def _keep_pictures(job: TrialJob, cases: Sequence[str], seen: Sequence[str], of_case: dict[str, Scored]) -> None:
    from bench import activations
    from bench.preview import Preview

    preview = Preview()
    for case in cases:
        preview.add(case, of_case[case].picture)
    preview.write(Path(job.run) / "previews" / f"{job.spec.key}.npz")
    looks = {case: arrays for case in seen if (arrays := of_case[case].activations) is not None}
    activations.write(Path(job.run) / "activations" / f"{job.spec.key}.npz", looks)


def dealt(sizes: Sequence[float], workers: int) -> list[list[int]]:
    """The numbers of the cases that each worker takes: the largest first, each to whoever has least to do so far."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += sizes[number]
    return shares


def _score_one(job: TrialJob, model: Any, case: PreparedCase, looked_at: bool) -> Scored:
    from bench.activations import blended
    from bench.evaluate import Inference, predict_native
    from bench.preview import pictured
    from bench.scoring.case import score_case
    from mvl.observe import observed

    how = Inference.of(job.spec, model.config.image)
    with ExitStack() as looking:
        passes = looking.enter_context(observed(model)) if looked_at else []
        prediction = predict_native(model, case.image(), case.grid, how, case.id)
    volume = read_case(case.case)
    tolerance = job.spec.data["tolerance"]
    scores = score_case(prediction, volume.label, volume.spacing, job.info.labels, case.id, case.patient, tolerance)
    look = blended(passes, case.image(), how) if looked_at else None
    return Scored(scores, pictured(volume, prediction), look.arrays(case.grid, volume.label) if look else None)
