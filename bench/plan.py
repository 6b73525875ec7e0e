"""A study and its ground to trials, and the run folder's memory of what was ever planned. Runs nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bench.arms import Arm
from bench.data.folder import TaskFolder
from bench.data.splits import SEED, Part, Split, make_splits
from bench.preflight import Ground
from bench.settings import Settings
from bench.study import StudyError, StudySpec, full_path
from bench.trial import TrialJob
from results.arms import arm_key
from results.record import TaskInfo, TrialSpec
from results.store import atomic_write

FILE = "plan.json"


def expand(study: StudySpec, ground: Ground) -> list[TrialJob]:
    """Every trial of the study: task x fold x fraction x seed x arm x variant, each with where its things are.

    An arm that a variant does not touch, as a reference model, is one trial.
    """
    jobs: dict[str, TrialJob] = {}
    places = str(full_path(ground.root)), str(study.run.resolve())  # Ray's workers stand in another folder
    variants = study.each_resolved()
    for name, folder in ground.folders.items():
        # Trials that differ in seed and part alone share these; a study may have ten thousand of them.
        arms = [(arm, _settings(arm, folder, each)) for arm, each in itertools.product(ground.arms, variants)]
        for part in make_splits(folder.cases, study.folds, study.fractions):
            info, data_digest = _info(ground, name, part.split), ground.checks[name].digest
            firsts = [(arm, _first(name, data_digest, part, arm, settings)) for arm, settings in arms]
            for seed, (arm, first) in itertools.product(study.seeds, firsts):
                spec = first.with_seed(seed)
                if spec.digest not in jobs:
                    jobs[spec.digest] = _job(study, places, arm, spec, info)
    return list(jobs.values())


def _first(task: str, data_digest: str, part: Part, arm: Arm, settings: dict[str, Any]) -> TrialSpec:
    return TrialSpec(
        task=task,
        backbone=arm.name,
        control=arm.control,
        layer=arm.layer,
        weights=arm.weights,
        seed=0,
        fold=part.fold,
        fraction=part.fraction,
        split_digest=part.split.digest,
        data_digest=data_digest,
        **settings,
    )


def _settings(arm: Arm, folder: TaskFolder, settings: Settings) -> dict[str, dict[str, Any]]:
    """What an arm is trained with on a task: the groups of a specification."""
    task = folder.spec
    sizes = {"channels": len(task.channels), "classes": len(task.labels) + 1}
    return {
        "train": settings["train"],
        "model": _lists(arm.model(settings) | sizes),
        "data": settings["data"] | {"tolerance": settings["data"]["tolerance"] or task.tolerance},
        "block": arm.settings(settings["block"]),
    }


def _job(study: StudySpec, places: tuple[str, str], arm: Arm, spec: TrialSpec, info: TaskInfo) -> TrialJob:
    data, run = places
    return TrialJob(
        spec=spec,
        info=info,
        data=data,
        run=run,
        backbone=arm.backbone,
        block=arm.block,
        second=arm.second,
        workers=study.workers_per_trial,
        cpus=study.cpus_per_worker,
        gpus=study.gpus_per_worker,
        zero_stage=study.zero_stage,
        checkpointing=study.checkpointing,
        activations=study.activations,
        command=study.command,
        keep_model=study.keep_models,
        checkpoint_every=study.checkpoint_every,
        loader_threads=study.loader_threads,
        validation_crops=study.validation_crops,
    )


def _info(ground: Ground, name: str, split: Split) -> TaskInfo:
    task = ground.folders[name].spec
    return TaskInfo(
        name=name,
        modality=task.modality,
        channels=task.channels,
        labels=task.labels,
        origin=task.origin,
        source=task.source,
        licence=task.licence,
        notice=task.notice,
        training_cases=len(split.train),
        held_out_cases=len(split.held_out),
    )


def remember(run: Path, specs: Iterable[TrialSpec]) -> None:
    """Add trials to the run folder's plan; StudyError if one is there already with other data, weights or settings."""
    before = planned(run)
    known = {entry["digest"] for entry in before}
    new = {spec.digest: spec for spec in specs if spec.digest not in known}
    if not new and (run / FILE).exists():
        return
    slots = {_slot(_spec(entry)): entry for entry in before}
    for spec in new.values():
        entry = json.loads(json.dumps(asdict(spec))) | {"digest": spec.digest, "key": spec.key}
        other = slots.setdefault(_slot(spec), entry)
        if other is not entry:
            field = next(name for name in entry if other.get(name) != entry[name])
            raise StudyError(
                f"{run}: {spec.title} was planned with another {field} "
                f"({other.get(field)!r}, now {entry[field]!r}); use another folder with --out"
            )
    # A line a trial: many thousands are written in the time that indenting them would take for one.
    lines = ",\n".join(json.dumps(entry, sort_keys=True) for entry in slots.values())
    atomic_write(run / FILE, f"[\n{lines}\n]\n".encode())


def save_splits(study: StudySpec, ground: Ground, run: Path) -> None:
    """Write `splits/<task>-<fold>.json`: which cases were trained on and which held out.

    A fraction of the training cases has a file of its own, `<task>-<fold>-<fraction>.json`.
    """
    for name, folder in ground.folders.items():
        for part in make_splits(folder.cases, study.folds, study.fractions):
            atomic_write(run / "splits" / f"{name}-{_part_name(part)}.json", _split_text(name, part))


def _part_name(part: Part) -> str:
    return f"{part.fold}" if part.fraction == 1 else f"{part.fold}-{part.fraction}"


def _split_text(task: str, part: Part) -> bytes:
    body = asdict(part.split) | {"task": task, "fold": part.fold, "fraction": part.fraction, "seed": SEED}
    return (json.dumps(body | {"digest": part.split.digest}, indent=1) + "\n").encode()


def planned(run: Path) -> list[dict[str, Any]]:
    """What was ever planned in a run folder: a specification with its digest and key, one a trial."""
    try:
        return json.loads((run / FILE).read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise _damaged(run, error) from error


def _damaged(run: Path, error: Exception) -> StudyError:
    return StudyError(f"{run / FILE}: is damaged ({error}); delete it and run the study's command again")


def expected(run: Path) -> list[TrialSpec]:
    """The specifications of every trial that was ever planned in a run folder; StudyError where one can be none."""
    try:
        return [_spec(entry) for entry in planned(run)]
    except (KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, StudyError) else _damaged(run, error) from error


def _spec(entry: dict[str, Any]) -> TrialSpec:
    names = {item.name for item in fields(TrialSpec)}
    plain = {key: value for key, value in entry.items() if key in names}
    return TrialSpec.from_body(plain)


def _slot(spec: TrialSpec) -> tuple[Any, ...]:
    return (spec.task, *arm_key(spec), spec.seed, spec.fold)


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, so that a specification read back from JSON is equal to the one that was written."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
