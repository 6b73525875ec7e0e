"""Everything that can fail before the first trial, checked at once, and the ground that a plan stands on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import backbones
from backbones import weights
from backbones.spec import BackboneSpec
from backbones.weights import BlockFile
from bench.data.check import check_task
from bench.data.folder import DataError, TaskFolder, open_task, task_names
from bench.data.phantom import phantom_root, write_phantom
from bench.data.splits import make_split
from bench.study import StudyError, StudySpec
from results.record import Weights

#: Called with what is being looked at, so that a long check is not a silent one.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One thing to compare: the baseline, a backbone's block, or a control of it."""

    backbone: BackboneSpec | None
    control: str
    weights: Weights
    block: BlockFile | None = None

    @property
    def name(self) -> str:
        return self.backbone.name if self.backbone else "none"

    @property
    def layer(self) -> int | None:
        return self.backbone.layer if self.backbone else None


@dataclass(frozen=True)
class Ground:
    """What was found in order: the tasks, the digests of their content, the arms."""

    root: Path
    folders: dict[str, TaskFolder]
    digests: dict[str, str]
    arms: tuple[Arm, ...]


def check(study: StudySpec, say: Say) -> Ground:
    """Tasks and weights of a study, all looked at; StudyError lists every problem, one a line."""
    problems: list[str] = []
    if study.workers_per_trial > (os.cpu_count() or 1):
        problems.append(
            f"--workers-per-trial: {study.workers_per_trial} workers, but this machine has {os.cpu_count()} cores"
        )
    arms = _arms(study, problems)
    _raise(problems)
    if study.data is None:
        say("phantom decathlon: generated data")
        root = write_phantom(phantom_root())
    else:
        root = Path(study.data)
    folders = _open(root, study.tasks, problems)
    _raise(problems)
    digests = {name: _checked(folder, study, say, problems) for name, folder in folders.items()}
    _raise(problems)
    return Ground(root, folders, digests, arms)


def _raise(problems: list[str]) -> None:
    """Names and weights are looked at before data, which may take minutes to read."""
    if problems:
        raise StudyError("\n".join(problems))


def _open(root: Path, wanted: tuple[str, ...], problems: list[str]) -> dict[str, TaskFolder]:
    folders = {}
    for name in wanted or task_names(root):
        try:
            folders[name] = open_task(root, name)
        except DataError as error:
            problems.append(str(error))
    return folders


def _checked(folder: TaskFolder, study: StudySpec, say: Say, problems: list[str]) -> str:
    say(f"{folder.spec.name}: {len(folder.cases)} cases")
    found = check_task(folder)
    problems += found.problems
    for fold in study.folds if not found.problems else ():
        try:
            make_split(folder.cases, fold)
        except ValueError as error:
            problems.append(f"{folder.spec.name}: {error}")
    return found.digest


def _arms(study: StudySpec, problems: list[str]) -> tuple[Arm, ...]:
    """The baseline, then each backbone and, where its weights are real, its frozen random twin."""
    arms = [Arm(None, "none", Weights("none"))]
    for name in dict.fromkeys(study.backbones):
        if name == "none":
            continue
        try:
            arms += _arms_of(backbones.get(name), study)
        except (backbones.UnknownBackbone, weights.WeightsError, StudyError) as error:
            problems.append(str(error))
    unused = sorted(set(study.weights) - set(study.backbones) - {"*"})
    problems += [
        f"--weights {name}=…: {name!r} is not among --backbones {','.join(study.backbones)}" for name in unused
    ]
    return tuple(arms)


def _arms_of(spec: BackboneSpec, study: StudySpec) -> list[Arm]:
    given = study.weights.get(spec.name, study.weights.get("*"))
    twin = Arm(spec, "random", Weights("random", "the family's own initialisation, seeded by the trial"))
    if given == "random":
        return [twin]
    block = weights.fetch(spec, source=given, apart=True) if given else weights.find(spec, spec.layer)
    if block is not None:
        weights.verify(spec, block)
        read = Weights("pretrained", block.source, block.sha256, block.licence)
        return [Arm(spec, "pretrained", read, block), twin]
    if study.phantom:
        return [Arm(spec, "stand-in", Weights("stand-in", "a tiny random twin of the architecture"))]
    raise StudyError(_missing(spec))


def _missing(spec: BackboneSpec) -> str:
    by_hub = spec.gated and spec.package is None
    gate = f" (accept the licence of {spec.repo} and set HF_TOKEN first)" if by_hub else ""
    return (
        f"--backbones {spec.name}: the weights of block {spec.layer} are not here. What would work: "
        f"`python -m bench weights fetch {spec.name}`{gate}; --weights {spec.name}=PATH of a checkpoint; "
        f"or, for a frozen random block, --weights {spec.name}=random"
    )
