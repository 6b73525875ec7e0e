"""The cases of a study made ready ahead of it: read all, fit the settings of each fold, prepare what is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.data import ahead
from bench.data.cache import cache_dir
from bench.data.check import case_facts, check_task
from bench.data.content import case_content
from bench.data.folder import Case, DataError, TaskFolder, merged_name, open_task, task_names
from bench.data.phantom import phantom_root, write_phantom
from bench.data.preparation import Preparation, ct_channels, fit_preparation
from bench.data.splits import Split, make_splits
from bench.data.volumes import grid_of, prepare_case, prepared_folder
from bench.errors import INTERRUPTED
from bench.progress import TrialProgress
from bench.settings import DataSettings, data_settings
from bench.study import StudySpec
from results.record import share_label


@dataclass(frozen=True)
class Target:
    """A case under one preparation: where it will lie, and how many bytes it will take there."""

    title: str
    case: Case
    preparation: Preparation
    folder: Path
    size: int


@dataclass
class _Work:
    """One call of the command: how much it may take, where it prints, and what failed so far."""

    console: Console
    workers: int
    memory: int
    failures: list[str] = field(default_factory=list)

    def run(self, jobs: list[ahead.Job], what: str) -> None:
        with TrialProgress({job.name: job.name for job in jobs}, self.console, what) as progress:
            for job, error in ahead.run(jobs, self.workers, self.memory):
                progress.update(job.name, 1.0)
                if error:
                    self.failures.append(error)


def prepare_study(study: StudySpec, console: Console, workers: int | None = None, memory: int | None = None) -> int:
    """Prepare every case of the study's tasks and folds, in as many processes as cores and memory allow.

    0 when all is prepared, 1 when a case failed (each is named, the others are prepared), 130 after Ctrl-C. DataError
    if the disk has too little room for what is missing.
    """
    root = write_phantom(phantom_root()) if study.data is None else Path(study.data)
    merge = merged_name if study.labels == "binary" else lambda _, name: name
    folders = [open_task(root, merge(root, name)) for name in study.tasks or task_names(root)]
    for folder in folders:
        list(make_splits(folder.cases, study.folds, study.fractions))  # a fold that is not there is told first
    work = _Work(console, workers or os.cpu_count() or 1, memory or ahead.free_memory())
    try:
        _read_all(folders, work)
        targets = {folder.spec.name: _targets(folder, study, work) for folder in folders}
        wanted = [target for group in targets.values() for target in group]
        missing = [target for target in wanted if not target.folder.exists()]
        _say_space(wanted, missing, work)
        jobs = [
            ahead.Job(t.title, _prepare, (t.case, t.preparation, cache_dir()), _memory(t.case) + 2 * t.size)
            for t in missing
        ]
        work.run(jobs, "prepared")
    except KeyboardInterrupt:
        console.print("stopped; what is prepared is kept, the same command goes on from here")
        return INTERRUPTED
    return _say_end(targets, work)


def _read_all(folders: Iterable[TaskFolder], work: _Work) -> None:
    """Each case's facts and content, measured in processes of their own, and remembered in the cache folder."""
    jobs = []
    for folder in folders:
        ct = ct_channels(folder.spec.modality, folder.spec.channels)
        for case in folder.cases:
            jobs.append(ahead.Job(f"{folder.spec.name}/{case.id}", case_content_of, (case, ct), _memory(case)))
    readers = _Work(work.console, work.workers, work.memory)
    readers.run(jobs, "read")
    broken = [problem for folder in folders for problem in check_task(folder).problems]
    # A file that cannot be read is named by the check as well, and with more than one word.
    work.failures += broken or readers.failures


def case_content_of(case: Case, ct: tuple[bool, ...]) -> None:
    """Measure a case's content and leave it in the cache folder."""
    case_content(case, ct)


def _targets(folder: TaskFolder, study: StudySpec, work: _Work) -> list[Target]:
    """What each fold needs, each thing once: folds with the same settings share their cases."""
    settings = data_settings(study.resolved()["data"])
    found: dict[Path, Target] = {}
    for part in make_splits(folder.cases, study.folds, study.fractions):
        side = f"fold {part.fold}" + (f", {share_label(part.fraction)}" if part.fraction < 1 else "")
        try:
            preparation = _fitted(folder, part.split, settings)
        except DataError as error:
            work.failures.append(f"{folder.spec.name}, {side}: settings cannot be fitted: {error}")
            continue
        for case in folder.cases:
            if case.id not in part.split.train + part.split.held_out or case_facts(case).errors:
                continue  # not part of the trial, or among the failures already
            target = _target(folder, side, case, preparation)
            found.setdefault(target.folder, target)
    return list(found.values())


def _fitted(folder: TaskFolder, split: Split, settings: DataSettings) -> Preparation:
    cases = [case for case in folder.cases if case.id in split.train]
    ct = ct_channels(folder.spec.modality, folder.spec.channels)
    return fit_preparation(cases, ct, settings.max_voxels, settings.hounsfield, settings.anisotropy)


def _target(folder: TaskFolder, side: str, case: Case, preparation: Preparation) -> Target:
    fact = case_facts(case)
    box = case_content(case, ct_channels(folder.spec.modality, folder.spec.channels)).box
    voxels = int(np.prod(grid_of(fact.shape, np.array(fact.affine), box, preparation).shape))
    title = f"{folder.spec.name}/{case.id}, {side}"
    return Target(title, case, preparation, prepared_folder(case, preparation), voxels * (4 * fact.channels + 1))


def _prepare(case: Case, preparation: Preparation, cache: Path) -> None:
    prepare_case(case, preparation, cache)


def _memory(case: Case) -> int:
    """Bytes that reading and preparing a case takes at most, by its header: 0 if that cannot be read.

    The file as it is and unpacked, its values as float64 if they are scaled, all channels as float32, and a few arrays
    of one channel: `tests/data/test_ahead.py` holds this to what a process takes.
    """
    try:
        images: list[Any] = [nib.load(path) for path in case.images]
    except Exception:  # a damaged file is named where it is read; nibabel raises many kinds
        return 0
    sizes = [(int(np.prod(image.shape)), image.header.get_data_dtype().itemsize) for image in images]
    return sum(values * (3 * width + 12) for values, width in sizes) + 24 * int(np.prod(images[0].shape[:3]))


def _say_space(wanted: list[Target], missing: list[Target], work: _Work) -> None:
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    need, free = sum(target.size for target in missing), shutil.disk_usage(cache).free
    work.console.print(
        f"{len(wanted) - len(missing)} of {len(wanted)} cases are prepared; the others take about "
        f"{ahead.size_text(need)} in {cache}, where {ahead.size_text(free)} are free",
        highlight=False,
        markup=False,
    )
    if need > free:
        raise DataError(
            f"{cache}: {len(missing)} cases need about {ahead.size_text(need)}, {ahead.size_text(free)} are free; make "
            "room there, name a folder on a larger disk with the variable BENCH_CACHE, or give fewer --tasks or a "
            "--set data.max_voxels"
        )


def _say_end(targets: dict[str, list[Target]], work: _Work) -> int:
    """A row a task: cases and the space they take, as measured; then each failure."""
    table = Table("task", "prepared", "space")
    for name, group in targets.items():
        done = [target.folder for target in group if target.folder.exists()]
        size = sum(path.stat().st_size for folder in done for path in folder.iterdir())
        table.add_row(name, f"{len(done)} of {len(group)}", ahead.size_text(size))
    work.console.print(table)
    for failure in work.failures:
        work.console.print(f"failed: {failure}", style="red", highlight=False, markup=False)
    return int(bool(work.failures))
