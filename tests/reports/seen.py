"""A made-up run with images to look at: organs in noise, predictions of every control, scores that belong to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.data.folder import Volume
from bench.preview import Preview, pictured
from results import store
from results.record import CaseScore, TrialResult
from tests.results import fake

ALL_ARMS = (
    ("none", "none"),
    *(("llama3", kind) for kind in ("pretrained", "random", "shuffled", "identity", "mlp", "depth", "trainable")),
    ("llama3", "lora"),
    ("mistral", "stand-in"),
)
SPACING = (1.5, 1.5, 4.0)


def write_run(run: Path, tasks: int = 1, arms=fake.ARMS, cases: int = 3, size=(40, 48, 20), seeds: int = 1):
    """Store a run of complete trials with their pictures; return its records."""
    made = []
    for record in fake.records(tasks, arms, seeds, cases):
        arm = list(arms).index((record.spec.backbone, record.spec.control))
        made.append(write_trial(run, record, arm, cases, size))
    return made


def write_trial(run: Path, record: TrialResult, arm: int, cases: int, size) -> TrialResult:
    """A record whose scores are those of its pictures."""
    preview, scores = Preview(), []
    for number in range(cases):
        random = np.random.default_rng([hash_of(record.spec.task), number])
        organ, lesion = _organ(size, random)
        reference = organ.astype(np.uint8) + lesion
        image = random.normal(60, 12, size) + 60 * organ + 45 * lesion
        shift = (arm * (number + 1)) % 5
        guess = np.roll(np.roll(reference, shift, 0), -(arm % 3), 2)
        guess[:, :, : arm % 4] = 0
        volume = Volume(image[None].astype(np.float32), reference, np.diag([*SPACING, 1.0]), SPACING)
        preview.add(f"p{number}_case{number}", pictured(volume, guess))
        scores += _scores(guess, reference, record.task.labels, f"p{number}_case{number}", f"p{number}")
    preview.write(run / "previews" / f"{record.spec.key}.npz")
    scored = replace(record, cases=tuple(scores))
    store.write(run, scored)
    return scored


def hash_of(name: str) -> int:
    """A number for a name, the same in every process."""
    return sum(name.encode())


def _organ(size, random):
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij")
    lobes = random.uniform(-0.2, 0.2, 3)
    wave = 0.08 * np.sin(7 * axes[0]) * np.cos(5 * axes[2])
    radius = sum(((axis - shift) / width) ** 2 for axis, shift, width in zip(axes, lobes, (0.5, 0.6, 0.7), strict=True))
    centre = sum((axis - shift - 0.15) ** 2 for axis, shift in zip(axes, lobes, strict=True))
    organ = np.sqrt(radius) + wave < 1
    return organ, organ & (np.sqrt(centre) < 0.22)


def _scores(guess, reference, labels, case, patient):
    for value, label in enumerate(labels, start=1):
        hit, said, true = int(((guess == value) & (reference == value)).sum()), guess == value, reference == value
        fp, fn = int(said.sum()) - hit, int(true.sum()) - hit
        far = (*fake.distances(hit, fp, fn), fake.DIAGONAL)
        yield CaseScore(case, patient, label, hit, fp, fn, guess.size - hit - fp - fn, *far)


def write_activations(run: Path, records: list[TrialResult], size=(40, 48, 20)) -> None:
    """Maps of each record's first case as `bench.activations` leaves them: a blob that moves from stage to stage."""
    for record in records:
        with np.load(run / "previews" / f"{record.spec.key}.npz") as preview:
            cases, shape = preview["cases"][:1], preview["image_0"].shape
        y, x = np.mgrid[: shape[0], : shape[1]]
        stages = ["encoder"] if record.spec.control in ("none", "reference") else ["before", "block", "encoder"]
        blocks = 0 if record.spec.backbone == "segresnet" else 4
        arrays = {"cases": cases, "entropy_0": np.linspace(0.9, 0.6, blocks, dtype=np.float32)}
        arrays["amplification_0"] = np.full(len(stages) // 2, 2.5, np.float32)
        for place, stage in enumerate(stages, start=1):
            centre = np.hypot(y - shape[0] * place / 4, x - shape[1] / 2)
            arrays[f"{stage}_0"] = np.exp(-centre / 8).astype(np.float32)
        path = run / "activations" / f"{record.spec.key}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)


def write_study(run: Path, cases: int = 6, tasks: int = 3) -> list[TrialResult]:
    """A run in which everything was varied that a report has a section for, with pictures and activation maps."""
    base = {"attention": "hybrid", "placement": "after", "channels": 1, "classes": 3}
    arms = (("none", "none"), ("smollm2", "pretrained"), ("smollm2", "mlp"))
    changes = [{}, {"fraction": 0.1}, {"layer": 7}, {"model": base | {"placement": "middle"}}]
    changes.append({"model": base | {"attention": "global"}})
    made = []
    for record in fake.records(tasks, arms, seeds=2, cases=cases):
        control, info = record.spec.control, replace(record.task, origin="images")
        for number, change in enumerate(changes):
            place = change.get("model", base)["placement"]
            if control in ("none", "mlp") and ("layer" in change or place != "after"):
                continue
            if change and record.spec.seed:
                continue
            layer = 31 if control == "pretrained" else None
            one = replace(record, task=info, spec=replace(record.spec, **({"model": base, "layer": layer} | change)))
            made.append(write_trial(run, one, number + len(control) % 3, cases, (24, 28, 10)))
    write_activations(run, made)
    return made
