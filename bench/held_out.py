"""The held-out cases of a trial: shared out among its workers, predicted, scored and pictured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.folder import read_case
from results.record import CaseScore

if TYPE_CHECKING:
    from bench.data.volumes import PreparedCase
    from bench.preview import Picture
    from bench.trial import Report, TrialJob

#: How much of a trial counts as training, of the share that is done; the rest is scoring.
TRAINING_SHARE = 0.85


def score(
    job: TrialJob, model: Any, held_out: Sequence[PreparedCase], report: Report, rank: int = 0, workers: int = 1
) -> list[CaseScore] | None:
    """Scores of every held-out case on its native grid, in their order; a picture of each is kept for the report.

    Each worker takes its share, and calls the model by itself; rank 0 returns the scores of all, the others None.
    """
    from bench import engine
    from bench.preview import Preview

    mine, found = dealt([math.prod(case.shape) for case in held_out], workers)[rank], {}
    for done, number in enumerate(mine, start=1):
        found[number] = _score_one(job, model, held_out[number])
        report({"scored": done}, TRAINING_SHARE + (1 - TRAINING_SHARE) * done / len(mine))
    every = engine.gathered(found)
    if every is None:
        return None
    of_case = {number: part for parts in every for number, part in parts.items()}
    preview, scores = Preview(), []
    for number, case in enumerate(held_out):
        scored, picture = of_case[number]
        scores += scored
        preview.add(case.id, picture)
    preview.write(Path(job.run) / "previews" / f"{job.spec.key}.npz")
    return scores


def dealt(sizes: Sequence[float], workers: int) -> list[list[int]]:
    """The numbers of the cases that each worker takes: the largest first, each to whoever has least to do so far."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += sizes[number]
    return shares


def _score_one(job: TrialJob, model: Any, case: PreparedCase) -> tuple[list[CaseScore], Picture]:
    from bench.evaluate import Inference, predict_native
    from bench.preview import pictured
    from bench.scoring.case import score_case

    how = Inference.of(job.spec, model.config.image)
    prediction = predict_native(model, case.image(), case.grid, how, case.id)
    volume = read_case(case.case)
    tolerance = job.spec.data["tolerance"]
    scores = score_case(prediction, volume.label, volume.spacing, job.info.labels, case.id, case.patient, tolerance)
    return scores, pictured(volume, prediction)
