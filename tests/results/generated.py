"""Studies of any size with known differences between arms. No model was trained for any of these numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from results import summary
from results.record import CaseScore, TrialResult
from tests.results import fake

NONE = ("none", "none")
ARMS = (NONE, ("smol", "pretrained"), ("smol", "random"), ("smol", "mlp"))
#: Voxels of a label. A prediction has as many, so Dice is the share of them that it hits.
SIZE = 100_000


def many_arms(backbones: int) -> tuple[tuple[str, str], ...]:
    """The baseline, and a pre-trained block, a random twin and a matched MLP of each backbone."""
    blocks = [(f"b{number:02d}", control) for number in range(backbones) for control in ("pretrained", "random", "mlp")]
    return (NONE, *blocks)


#: The size of the tables that reports are measured with: 2,000 trials × 50 cases × 2 labels, 200,000 scores.
LARGE = {"tasks": 10, "arms": many_arms(13), "seeds": 5, "cases": 50, "labels": 2}


def study(**settings: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(frame, trials) of `records`, as `results.summary` makes them."""
    made = records(**settings)  # type: ignore[arg-type]
    return summary.long_table(made), summary.trial_table(made)


def records(
    tasks: int = 10,
    arms: Sequence[tuple[str, str]] = ARMS,
    seeds: int = 1,
    cases: int = 12,
    labels: int = 1,
    gain: Mapping[str, float] | None = None,
    noise: float = 0.05,
    task_noise: float = 0.0,
    patients: int | None = None,
    patient_noise: float = 0.0,
    modalities: Sequence[str] = ("MRI", "CT"),
    seed: int = 0,
) -> list[TrialResult]:
    """A record a task × arm × seed; tasks take turns in their modality.

    gain: control -> what it adds to a case's Dice. noise, task_noise, patient_noise: the standard deviations of an
    arm's own deviation in a case, a task and a patient; labels and seeds of a case share them. The noise of cases is
    skewed, as Dice is. patients: the number of patients that the cases of a task are dealt to.
    """
    rng = np.random.default_rng(seed)
    patients = patients or cases
    of_case = np.arange(cases) % patients
    shift = np.array([(gain or {}).get(control, 0.0) for _, control in arms])[None, :, None]
    own = noise * (rng.exponential(1, (tasks, len(arms), cases)) - 1)
    own += task_noise * rng.normal(size=(tasks, len(arms), 1))
    own += patient_noise * rng.normal(size=(tasks, len(arms), patients))[:, :, of_case]
    dice = (0.25 + 0.5 * rng.beta(4, 3, (tasks, 1, cases)) + shift - own)[:, :, None, :, None]
    dice = np.clip(dice + 0.01 * rng.normal(size=(tasks, len(arms), seeds, cases, labels)), 0.01, 0.99)
    names = [(f"case{case:03d}", f"p{patient:03d}") for case, patient in enumerate(of_case)]
    made = []
    for number, hits in enumerate(np.round(SIZE * dice).astype(int).tolist()):
        info = fake.task(f"Task{number:04d}_Made", modalities[number % len(modalities)])
        for arm, of_arm in zip(arms, hits, strict=True):
            for one, of_seed in enumerate(of_arm):
                scores = (_score(*name, label, hit) for name, row in zip(names, of_seed, strict=True)
                          for label, hit in enumerate(row))  # fmt: skip
                made.append(TrialResult(fake.spec(info.name, *arm, seed=one), fake.Status.COMPLETE, info, (*scores,)))
    return made


def _score(case: str, patient: str, label: int, hit: int) -> CaseScore:
    far = fake.distances(hit, SIZE - hit, SIZE - hit)
    return CaseScore(case, patient, f"label{label}", hit, SIZE - hit, SIZE - hit, 10 * SIZE, *far, fake.DIAGONAL)
