"""A study and its ground to trials, and the run folder's memory of what was ever planned. Runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bench.arms import Arm
from bench.data.splits import SEED, Split, make_split
from bench.preflight import Ground
from bench.study import StudyError, StudySpec
from bench.trial import TrialJob
from results.record import TaskInfo, TrialSpec, Weights
from results.store import atomic_write

FILE = "plan.json"


def expand(study: StudySpec, ground: Ground) -> list[TrialJob]:
    """Every trial of the study: task x arm x seed x fold, each with where its things are."""
    settings = study.resolved()
    jobs = []
    for name, folder in ground.folders.items():
        task = folder.spec
        model = settings["model"] | {"channels": len(task.channels), "classes": len(task.labels) + 1}
        for fold in study.folds:
            split = make_split(folder.cases, fold)
            for seed in study.seeds:
                for arm in ground.arms:
                    spec = TrialSpec(
                        task=name,
                        backbone=arm.name,
                        control=arm.control,
                        layer=arm.layer,
                        weights=arm.weights,
                        seed=seed,
                        fold=fold,
                        fraction=1.0,
                        split_digest=split.digest,
                        data_digest=ground.digests[name],
                        train=settings["train"],
                        model=_lists(model),
                        data=settings["data"],
                        block=arm.settings(settings["block"]),
                    )
                    jobs.append(_job(study, ground, arm, spec, _info(ground, name, split)))
    return jobs


def _job(study: StudySpec, ground: Ground, arm: Arm, spec: TrialSpec, info: TaskInfo) -> TrialJob:
    return TrialJob(
        spec=spec,
        info=info,
        data=str(ground.root.resolve()),  # Ray's workers stand in another folder
        run=str(study.run.resolve()),
        backbone=arm.backbone,
        block=arm.block,
        workers=study.workers_per_trial,
        zero_stage=study.zero_stage,
        checkpointing=study.checkpointing,
        command=study.command,
        keep_model=study.keep_models,
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
    plan = {_slot(entry): entry for entry in planned(run)}
    for spec in specs:
        entry = json.loads(json.dumps(asdict(spec))) | {"digest": spec.digest, "key": spec.key}
        before = plan.get(_slot(entry))
        if before and before["digest"] != entry["digest"]:
            field = next(name for name in entry if before.get(name) != entry[name])
            raise StudyError(
                f"{run}: {spec.title} was planned with another {field} "
                f"({before.get(field)!r}, now {entry[field]!r}); use another folder with --out"
            )
        plan[_slot(entry)] = entry
    atomic_write(run / FILE, (json.dumps(list(plan.values()), indent=1, sort_keys=True) + "\n").encode())


def save_splits(study: StudySpec, ground: Ground, run: Path) -> None:
    """Write `splits/<task>-<fold>.json`: which cases were trained on and which held out."""
    for name, folder in ground.folders.items():
        for fold in study.folds:
            split = make_split(folder.cases, fold)
            body = asdict(split) | {"task": name, "fold": fold, "seed": SEED, "digest": split.digest}
            atomic_write(run / "splits" / f"{name}-{fold}.json", (json.dumps(body, indent=1) + "\n").encode())


def planned(run: Path) -> list[dict[str, Any]]:
    """What was ever planned in a run folder: a specification with its digest and key, one a trial."""
    try:
        return json.loads((run / FILE).read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise StudyError(f"{run / FILE}: is damaged ({error}); delete it and run the study's command again") from error


def expected(run: Path) -> list[TrialSpec]:
    """The specifications of every trial that was ever planned in a run folder."""
    names = {item.name for item in fields(TrialSpec)}
    plain = [{key: value for key, value in entry.items() if key in names} for entry in planned(run)]
    return [TrialSpec(**(entry | {"weights": Weights(**entry["weights"])})) for entry in plain]


def _slot(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[name] for name in ("task", "backbone", "control", "layer", "seed", "fold", "fraction"))


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, so that a specification read back from JSON is equal to the one that was written."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
