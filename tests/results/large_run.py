"""A run of any size, as a file tree: records drawn from known differences between arms. No model was trained for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from results import store
from results.record import CaseScore, TaskInfo, TrialResult, TrialSpec
from tests.results import fake

#: backbone, control → how much its Dice lies above the baseline's.
GAINS = {
    ("none", "none"): 0.0,
    ("llama3", "pretrained"): 0.03,
    ("llama3", "random"): 0.02,
    ("llama3", "mlp"): 0.01,
    ("mistral", "pretrained"): 0.0,
    ("mistral", "random"): 0.0,
    ("mistral", "mlp"): -0.01,
    ("smollm2", "pretrained"): 0.05,
    ("smollm2", "random"): 0.01,
    ("smollm2", "mlp"): 0.01,
}
_MODALITIES = ("MRI", "CT")
_VOXELS = 100_000
_EPOCHS = 20
_SIDE = 96


@dataclass(frozen=True)
class Size:
    """tasks × arms × seeds × folds trials, each of cases × 2 scores: 2,000 trials and 200,000 scores as it stands."""

    tasks: int = 10
    arms: int = len(GAINS)
    seeds: int = 4
    folds: int = 5
    cases: int = 50

    @property
    def trials(self) -> int:
        return self.tasks * self.arms * self.seeds * self.folds


def records(size: Size) -> Iterator[TrialResult]:
    """The records, the same at every call. A case is as hard for every arm and seed, as cases are."""
    for number in range(1, size.tasks + 1):
        name = f"Task{number:02d}_Made"
        task = fake.task(name, _MODALITIES[number % 2], origin="images", held_out_cases=size.cases)
        random = np.random.default_rng(number)
        hard_FCL = random.normal(0.7, 0.12, (size.folds, size.cases, len(task.labels)))
        for (backbone, control), gain in list(GAINS.items())[: size.arms]:
            for seed in range(size.seeds):
                for fold in range(size.folds):
                    noise_CL = random.normal(gain, 0.03, hard_FCL.shape[1:])
                    spec = fake.spec(name, backbone, control, seed=seed, fold=fold, split_digest=f"split{fold}")
                    yield _record(spec, task, (hard_FCL[fold] + noise_CL).clip(0.0, 1.0), fold)


def _record(spec: TrialSpec, task: TaskInfo, dice_CL: NDArray[np.float64], fold: int) -> TrialResult:
    """A complete record whose cases have these Dice: the reference has 1,000 voxels, the prediction as many."""
    hits_CL = np.rint(1000 * dice_CL).astype(int).tolist()
    cases = tuple(
        _score(f"c{fold}_{i:03d}", f"p{fold}_{i:03d}", label, tp)
        for i, hits in enumerate(hits_CL)
        for label, tp in zip(task.labels, hits, strict=True)
    )
    curve = tuple({"step": 50 * i, "loss": 1 / (1 + i), "dice": 1 - 1 / (1 + i)} for i in range(_EPOCHS))
    made = fake.complete(spec, task, cases)
    return TrialResult(spec, made.status, task, cases, curve, made.provenance, made.cost)


def _score(case: str, patient: str, label: str, tp: int) -> CaseScore:
    far = fake.distances(tp, 1000 - tp, 1000 - tp)
    return CaseScore(case, patient, label, tp, 1000 - tp, 1000 - tp, _VOXELS - 2000 + tp, *far, fake.DIAGONAL)


def write(run: Path, size: Size) -> Path:
    """Write the records as a run folder with its plan; previews of each arm's first trial alone: no more are read."""
    plan = []
    for record in records(size):
        path = store.record_path(run, record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_json())  # as the store writes it, without its two syncs a file
        plan.append(asdict(record.spec) | {"digest": record.spec.digest, "key": record.spec.key})
        if record.spec.seed == record.spec.fold == 0:
            _write_preview(run, record)
    (run / "plan.json").write_text(json.dumps(plan))
    return run


def _write_preview(run: Path, record: TrialResult) -> None:
    """A disc in a slice of each case."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    disc = (np.hypot(y - _SIDE / 2, x - _SIDE / 2) < _SIDE / 4).astype(np.uint8)
    names = sorted({case.case for case in record.cases})
    arrays = {"cases": np.array(names)}
    for i in range(len(names)):
        guess = np.roll(disc, i % 5, axis=0)
        arrays |= {f"image_{i}": 60 + 120 * disc, f"reference_{i}": disc, f"prediction_{i}": guess}
    path = run / "previews" / f"{record.spec.key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
