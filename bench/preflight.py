"""Everything that can fail before the first trial, checked at once, and the ground that a plan stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import machine, trackers
from bench.arms import Arm, find_arms
from bench.data.check import TaskCheck, check_task
from bench.data.folder import DataError, TaskFolder, merged_name, open_task, task_names
from bench.data.layouts.table import UNKNOWN
from bench.data.phantom import phantom_root, write_phantom
from bench.data.preparation import ct_channels
from bench.data.sides import look_at_sides
from bench.settings import data_settings, train_settings
from bench.study import StudyError, StudySpec

#: Called with what is being looked at, so that a long check is not a silent one.
Say = Callable[[str], None]
#: Makes of a task the task of some of its cases.
Narrow = Callable[[TaskFolder], TaskFolder]


@dataclass(frozen=True)
class Ground:
    """What was found in order: the tasks, what looking at their cases told, the arms; notices say what was left out."""

    root: Path
    folders: dict[str, TaskFolder]
    checks: dict[str, TaskCheck]
    arms: tuple[Arm, ...]
    notices: tuple[str, ...] = ()


def check(study: StudySpec, say: Say, narrow: Narrow | None = None) -> Ground:
    """Tasks and weights of a study, all looked at; StudyError lists every problem, one a line.

    narrow leaves cases of a task out before any of its images is opened.
    """
    problems = [text] if (text := trackers.problem(study.log)) else []
    problems += [] if study.address else _beyond_this_machine(study)  # a cluster is asked once it is reached
    arms, notices = find_arms(study, say, problems)
    _raise(problems)
    if study.data is None:
        say("phantom decathlon: generated data")
        root = write_phantom(phantom_root())
    else:
        root = Path(study.data)
    folders = _open(root, study, problems)
    if narrow:
        folders = {name: narrow(folder) for name, folder in folders.items()}
    problems += _unused_window(folders, study)
    _raise(problems)
    told = [*notices]
    checks = {name: _checked(folder, study, say, problems, told) for name, folder in folders.items()}
    _raise(problems)
    return Ground(root, folders, checks, arms, (*told, *_timed(study)))


def _beyond_this_machine(study: StudySpec) -> list[str]:
    """What the study asks of devices that are not here."""
    workers, cores, gpus = study.workers_per_trial, machine.cores(), machine.gpus()
    share = min(1, gpus) if study.gpus_per_worker is None else study.gpus_per_worker
    problems = []
    if share > gpus:
        problems.append(f"--gpus-per-worker: {share:g}, but torch finds no GPU on this machine; leave it out, or use 0")
    elif workers * share > gpus:
        problems.append(f"--workers-per-trial: {workers} workers, but this machine has {gpus} GPUs")
    each = max(1, study.cpus_per_worker)
    if workers * each > cores:
        of = f" of {each} cores each (--cpus-per-worker)" if each > 1 else ""
        problems.append(f"--workers-per-trial: {workers} workers{of}, but this machine has {cores} cores")
    return problems


def _timed(study: StudySpec) -> list[str]:
    settings = train_settings(study.resolved()["train"])
    if not settings.seconds or study.max_concurrent == 1:
        return []
    return [
        f"--budget {settings.budget}: trials that run side by side share the machine; "
        "--max-concurrent 1 runs them one by one"
    ]


def _raise(problems: list[str]) -> None:
    """Names and weights are looked at before data, which may take minutes to read."""
    if problems:
        raise StudyError("\n".join(problems))


def _open(root: Path, study: StudySpec, problems: list[str]) -> dict[str, TaskFolder]:
    folders = {}
    for name in study.tasks or task_names(root):
        try:
            asked = merged_name(root, name) if study.labels == "binary" else name
            folders[asked] = open_task(root, asked)
        except DataError as error:
            problems.append(str(error))
    return folders


def _unused_window(folders: dict[str, TaskFolder], study: StudySpec) -> list[str]:
    window = data_settings(study.resolved()["data"]).window
    if not window or not folders or any(any(_ct(folder)) for folder in folders.values()):
        return []
    found = ", ".join(sorted({folder.spec.modality for folder in folders.values()}))
    return [f"--set data.window={window}: clips CT, but no task and no channel is CT (found {found}); leave it out"]


def _ct(folder: TaskFolder) -> tuple[bool, ...]:
    return ct_channels(folder.spec.modality, folder.spec.channels)


def _checked(folder: TaskFolder, study: StudySpec, say: Say, problems: list[str], notices: list[str]) -> TaskCheck:
    say(f"{folder.spec.name}: {len(folder.cases)} cases")
    found = check_task(folder)
    problems += found.problems
    notices += found.notices
    if not found.problems:
        wrong, told = look_at_sides(folder, study.folds, study.fractions)
        problems += wrong
        notices += told
    if folder.spec.modality == UNKNOWN and not any(_ct(folder)):
        notices.append(
            f"{folder.spec.name}: {folder.source.name} gives no modality, so each image is standardised by itself; "
            "CT is clipped and scaled by the training foreground: say so in a modality column"
        )
    return found
