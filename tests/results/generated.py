"""Studies of any size with known differences between arms, as the frames that `results.summary` makes of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from results import metrics, summary
from results.record import TrialResult
from tests.results import fake

NONE = ("none", "none")
ARMS = (NONE, ("smol", "pretrained"), ("smol", "random"), ("smol", "mlp"))
#: Voxels of a label. A prediction has as many, so Dice is the share that it hits.
SIZE = 100_000


def many_arms(backbones: int) -> tuple[tuple[str, str], ...]:
    """The baseline, and a pre-trained block, a random twin and a matched MLP of each backbone."""
    blocks = [(f"b{number:02d}", control) for number in range(backbones) for control in ("pretrained", "random", "mlp")]
    return (NONE, *blocks)


def study(
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
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(frame, trials): every arm on every task with every seed.

    gain: control -> what it adds to a case's Dice. noise, task_noise, patient_noise: the standard deviations of an
    arm's own deviation in a case, a task and a patient; labels and seeds of a case share them. The noise of cases is
    skewed, as Dice is. patients: the number of patients that the cases of a task are dealt to.
    """
    rng = np.random.default_rng(seed)
    patients = patients or cases
    of_case = np.arange(cases) % patients
    shift = np.array([(gain or {}).get(control, 0.0) for _, control in arms])[None, :, None]
    difficulty = rng.beta(4, 3, (tasks, 1, cases))
    own = noise * (rng.exponential(1, (tasks, len(arms), cases)) - 1)
    own += task_noise * rng.normal(size=(tasks, len(arms), 1))
    own += patient_noise * rng.normal(size=(tasks, len(arms), patients))[:, :, of_case]
    dice = (0.25 + 0.5 * difficulty + shift - own)[:, :, None, :, None]
    dice = dice + 0.01 * rng.normal(size=(tasks, len(arms), seeds, cases, labels))
    return _frames(np.clip(dice, 0.01, 0.99), arms, of_case)


def _frames(
    dice: np.ndarray, arms: Sequence[tuple[str, str]], of_case: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """dice: (task, arm, seed, case, label)."""
    tasks, _, seeds, cases, labels = dice.shape
    infos = [fake.task(f"Task{number:02d}_Made", ("MRI", "CT")[number % 2]) for number in range(tasks)]
    specs = [(info, fake.spec(info.name, *arm, seed=seed)) for info in infos for arm in arms for seed in range(seeds)]
    trials = summary.trial_table(TrialResult(spec, fake.Status.COMPLETE, info) for info, spec in specs)
    rows = [(*_trial(info, spec),) for info, spec in specs]
    frame = pd.DataFrame(rows, columns=list(summary.COLUMNS[:9]))
    frame = frame.loc[frame.index.repeat(cases * labels)].reset_index(drop=True)
    names = np.array([f"case{number:03d}" for number in range(cases)])
    frame["case"] = np.tile(np.repeat(names, labels), len(specs))
    frame["patient"] = np.tile(np.repeat(np.array([f"p{number:03d}" for number in of_case]), labels), len(specs))
    frame["label"] = np.tile([f"label{number}" for number in range(labels)], len(specs) * cases)
    hit = np.round(SIZE * dice).astype(np.int64).ravel()
    counts = {"tp": hit, "fp": SIZE - hit, "fn": SIZE - hit, "tn": np.full(hit.shape, 10 * SIZE)}
    ratios = {name: ratio(*counts.values()) for name, ratio in metrics.METRICS.items()}
    text = dict.fromkeys(("task", "modality", "backbone", "control", "weights", "case", "patient", "label"), "str")
    return frame.assign(**counts, **ratios).astype({"layer": "Int64", **text})[list(summary.COLUMNS)], trials


def _trial(info, spec):
    return (
        info.name,
        info.modality,
        spec.backbone,
        spec.control,
        spec.layer,
        spec.weights.label,
        spec.seed,
        spec.fold,
        1.0,
    )
