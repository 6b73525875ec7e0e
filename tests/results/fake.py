"""Made-up records and previews for tests. No model was trained for any of these numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from results import store
from results.record import CaseScore, Status, TaskInfo, TrialResult, TrialSpec, Weights

ARMS = (("none", "none"), ("llama3", "stand-in"), ("mistral", "stand-in"))
REAL_ARMS = (("none", "none"), ("smollm2", "pretrained"), ("smollm2", "random"))
SHA = "ab" * 32
#: Of every made-up image, in mm.
DIAGONAL = 100.0
PROVENANCE = {
    "started": "2030-01-02T03:04:05",
    "finished": "2030-01-02T03:04:15",
    "host": "fake-host",
    "device": "cpu",
    "threads": 1,
    "workers": 1,
    "commit": "0123456789abcdef",
    "dirty": True,
    "versions": {"torch": "0.0-fake", "ray": "0.1-fake"},
    "python": "3.11.0",
    "platform": "Fake-1.0",
    "command": "python -m bench run --backbones fake",
}
COST = {
    "trainable_parameters": 123_456,
    "frozen_parameters": 7_890_123,
    "seconds_a_step": 0.125,
    "epoch_seconds": [0.5, 3.0, 3.0, 4.0],
    "train_seconds": 12.5,
    "score_seconds": 1.5,
    "peak_memory_bytes": 512 * 2**20,
    "steps": 100,
}


def task(name: str = "Task01_Fake", modality: str = "MRI", **changes: object) -> TaskInfo:
    info = TaskInfo(name, modality, ("T1",), ("organ", "lesion"), "phantom", "made up", "CC0", "", 10, 2)
    return replace(info, **changes)  # type: ignore[arg-type]


def spec(task_name: str = "Task01_Fake", backbone: str = "none", control: str = "none", **changes: object) -> TrialSpec:
    sha = SHA if control == "pretrained" else ""
    layer = None if control == "none" else 31
    weights = Weights(control, "fake/source" if sha else "", sha, "Fake-1.0" if sha else "")
    base = TrialSpec(task_name, backbone, control, layer, weights, 0, 0, 1.0, "split00", "data00", {"epochs": 3})
    return replace(base, **changes)  # type: ignore[arg-type]


def score(case: str, label: str = "organ", tp: int = 50, fp: int = 10, fn: int = 20, voxels: int = 1000) -> CaseScore:
    """A score with these counts; its distances are better where its Dice is, and undefined where the rules say so."""
    patient, rest = case.split("_")[0], voxels - tp - fp - fn
    return CaseScore(case, patient, label, tp, fp, fn, rest, *distances(tp, fp, fn), DIAGONAL)


def distances(tp: int, fp: int, fn: int) -> tuple[float | None, float | None]:
    """(nsd, hd95) that go with counts, by the rules for empty masks."""
    if not tp + fp + fn:
        return None, None
    dice = 2 * tp / (2 * tp + fp + fn)
    return (dice**0.5, 40 * (1 - dice)) if tp + fp and tp + fn else (0.0, None)


def complete(spec_: TrialSpec, info: TaskInfo, cases: tuple[CaseScore, ...]) -> TrialResult:
    """The last epoch alone was validated, as where epochs are short."""
    curve = [{"step": 10 * i, "loss": 1 / (i + 1), "dice": None if i == 0 else 1 - 1 / i} for i in range(4)]
    curve[-1]["validation_dice"] = 0.5
    return TrialResult(spec_, Status.COMPLETE, info, cases, tuple(curve), dict(PROVENANCE), dict(COST))


def failure(spec_: TrialSpec, info: TaskInfo, error: str = "RuntimeError: made to fail") -> TrialResult:
    return TrialResult(spec_, Status.FAILED, info, error=error)


def records(
    tasks: int = 2, arms: tuple[tuple[str, str], ...] = ARMS, seeds: int = 1, cases: int = 2
) -> list[TrialResult]:
    """tasks × arms × seeds records with random counts; the same numbers at every call."""
    random = np.random.default_rng(0)
    made = []
    for number in range(1, tasks + 1):
        info = task(f"Task{number:02d}_Fake", ("MRI", "CT")[number % 2], held_out_cases=cases)
        for backbone, control in arms:
            for seed in range(seeds):
                one = spec(info.name, backbone, control, seed=seed)
                scores = (
                    score(f"p{i}_case{i}", label, *random.integers(20, 200, 3).tolist())
                    for i in range(cases)
                    for label in info.labels
                )
                made.append(complete(one, info, tuple(scores)))
    return made


def write_run(run: Path, made: list[TrialResult], previews: bool = True) -> Path:
    """Store the records as a run folder, with a preview a complete record."""
    for number, record in enumerate(made):
        store.write(run, record)
        if previews and record.cases:
            write_preview(run, record, number)
    return run


def write_preview(run: Path, record: TrialResult, number: int = 0) -> Path:
    """Discs in noise, of another size in each case."""
    arrays: dict[str, np.ndarray] = {"cases": np.array(sorted({case.case for case in record.cases}))}
    random = np.random.default_rng(number)
    for i in range(len(arrays["cases"])):
        y, x = np.mgrid[: 48 + 8 * i, : 40 + 16 * i]
        organ = np.hypot(y - 24, x - 20) < 14
        guess = np.hypot(y - 24 - number % 5, x - 20) < 12
        arrays[f"image_{i}"] = (random.integers(0, 90, y.shape) + 120 * organ).astype(np.uint8)
        arrays[f"reference_{i}"] = (1 * organ + (np.hypot(y - 22, x - 18) < 5)).astype(np.uint8)
        arrays[f"prediction_{i}"] = (1 * guess + (np.hypot(y - 24, x - 20) < 4)).astype(np.uint8)
        arrays[f"aspect_{i}"] = np.float64(1.0 + 0.5 * i)
    path = run / "previews" / f"{record.spec.key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path
