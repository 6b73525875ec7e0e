"""Someone else's predictions as a trial's record, so that every table and report takes them as it takes ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import plan, provenance
from bench.data.nifti import DataError
from bench.scoring.files import Scored, digest
from bench.scoring.folder import Named
from results import store
from results.record import CaseScore, Status, TaskInfo, TrialResult, TrialSpec, Weights

CONTROL = "external"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
#: So many differences are told.
_FEW = 5


@dataclass(frozen=True)
class Predictions:
    """Whose predictions they are, where they lie, and what they were scored as."""

    name: str
    folder: Path
    task: Named
    tolerance: float
    command: str


def checked_name(name: str) -> str:
    """A name that may stand in a path and in a table; DataError for another."""
    if not _NAME.fullmatch(name):
        raise DataError(f"--name {name!r}: must be of letters, digits, '.', '-' and '_', such as nnunet")
    return name


def checked_folder(to: Path) -> None:
    """DataError unless `to` is a folder that holds nothing but external scores, or is not there yet."""
    if to.is_file():
        raise DataError(f"--to {to}: is a file; give a folder")
    controls = {one["control"] for one in plan.planned(to)} | {one.spec.control for one in store.read(to)}
    if controls - {CONTROL}:
        raise DataError(f"--to {to}: holds trials of a run; give another folder, and --beside {to} to score beside it")


def record(whose: Predictions, scored: Mapping[str, Scored]) -> TrialResult:
    """One complete trial of the control `external`; its hashes are those of the files that were scored."""
    references = digest({case: one.reference for case, one in scored.items()})
    spec = TrialSpec(
        task=whose.task.task,
        backbone=whose.name,
        control=CONTROL,
        layer=None,
        weights=Weights(CONTROL, str(whose.folder), digest({case: one.prediction for case, one in scored.items()})),
        seed=0,
        fold=0,
        fraction=1.0,
        split_digest=references[:12],
        data_digest=references[:12],
        data={"tolerance": whose.tolerance},
    )
    task = whose.task
    info = TaskInfo(
        task.task,
        task.modality,
        (),
        task.labels,
        task.origin,
        task.source,
        task.licence,
        task.notice,
        held_out_cases=len(scored),
    )
    cases = tuple(score for one in scored.values() for score in one.scores)
    origin = provenance.code_and_machine() | {"finished": provenance.now(), "command": whose.command}
    return TrialResult(spec, Status.COMPLETE, info, cases, provenance=origin)


def beside(run: Path, ours: TrialResult) -> list[TrialResult]:
    """The record as trials of a run's own folds, so that the two can be merged into one report.

    Each case goes to the fold that held it out. DataError where the run does not have the task, trained on a case in
    every fold, was scored with another tolerance, or its references have other sizes: then it is not the same data.
    """
    task = ours.spec.task
    theirs = [one for one in store.read(run) if one.spec.task == task and one.status is Status.COMPLETE]
    if not theirs:
        raise DataError(f"--beside {run}: has no complete trial of the task {task!r}; name the task with --task")
    tolerances = {one.spec.data.get("tolerance") for one in theirs}
    if tolerances != {ours.spec.data["tolerance"]}:
        told = ", ".join(map(str, sorted(tolerances, key=str)))
        raise DataError(f"--beside {run}: was scored with an NSD tolerance of {told} mm; give --tolerance {told}")
    fullest_last = sorted(theirs, key=lambda one: (one.spec.fraction, -one.spec.seed))
    by_fold = {one.spec.fold: one for one in fullest_last}
    homes = {score.case: fold for fold, one in by_fold.items() for score in one.cases}
    if lost := sorted({score.case for score in ours.cases} - set(homes)):
        raise DataError(f"--beside {run}: {len(lost)} cases were held out in none of its folds: {', '.join(lost)}")
    _same_references(run, ours, theirs)
    folds = sorted(set(homes[score.case] for score in ours.cases))
    return [_of_fold(ours, by_fold[fold], {case for case, home in homes.items() if home == fold}) for fold in folds]


def write(to: Path, records: list[TrialResult]) -> None:
    """Make `to` a run folder with these trials; DataError if it holds other scores of one of them."""
    slots = {(one["task"], one["backbone"], one["fold"]): one["digest"] for one in plan.planned(to)}
    for one in records:
        spec = one.spec
        if slots.get((spec.task, spec.backbone, spec.fold), spec.digest) != spec.digest:
            raise DataError(f"--to {to}: holds other scores of {spec.title} already; give another folder")
    for one in records:
        store.write(to, one)
    plan.remember(to, [one.spec for one in records])


def _of_fold(ours: TrialResult, fold: TrialResult, cases: set[str]) -> TrialResult:
    told = fold.spec
    spec = replace(
        ours.spec,
        seed=told.seed,
        fold=told.fold,
        split_digest=told.split_digest,
        data_digest=told.data_digest,
        data=told.data,
    )
    patients = {score.case: score.patient for score in fold.cases}
    scores = tuple(replace(score, patient=patients[score.case]) for score in ours.cases if score.case in cases)
    task = replace(fold.task, held_out_cases=len({score.case for score in scores}))
    return replace(ours, spec=spec, task=task, cases=scores)


def _same_references(run: Path, ours: TrialResult, theirs: list[TrialResult]) -> None:
    sizes = {_place(score): _sizes(score) for one in theirs for score in one.cases}
    other = [
        f"{score.case}, {score.label}: {_sizes(score)} here, {sizes.get(_place(score), 'no such label')} in the run"
        for score in ours.cases
        if sizes.get(_place(score)) != _sizes(score)
    ]
    if other:
        more = f"; and {len(other) - _FEW} more" if len(other) > _FEW else ""
        raise DataError(
            f"--beside {run}: the references differ (voxels of label and image): {'; '.join(other[:_FEW])}{more}"
        )


def _place(score: CaseScore) -> tuple[str, str]:
    return score.case, score.label


def _sizes(score: CaseScore) -> tuple[int, int]:
    """Voxels of the label in the reference, and of the image."""
    return score.tp + score.fn, score.tp + score.fp + score.fn + score.tn
