"""`bench data get`: tasks of the Medical Segmentation Decathlon, from their archives to folders that are ready."""

from __future__ import annotations

import difflib
from pathlib import Path

from rich.console import Console

from bench.data.archive import unpack
from bench.data.cache import write_once
from bench.data.disk import existing, gigabytes, require_space, writing
from bench.data.download import CITATION, Archive, archives, fetch, holding, size_of
from bench.data.folder import DataError
from bench.data.tasks import DECATHLON
from bench.progress import to_stderr
from bench.work_bar import WorkBar


def get_tasks(names: tuple[str, ...], to: Path, source: str, keep: bool, console: Console) -> None:
    """Download, verify and unpack each task into `to`, unless it is there. DataError says what went wrong.

    Everything is looked for, and the room for it, before the first download.
    """
    tasks = _named(names)
    if not existing(to).is_dir():
        raise DataError(f"--to {to}: {existing(to)} is no folder; give a folder to write to")
    to_stderr("reading addresses and checksums from MONAI")
    wanted = [archive for archive in archives(tasks, source) if not _is_here(to / archive.task)]
    for task in tasks:
        if task not in [archive.task for archive in wanted]:
            _say(console, f"{to / task}: is there already")
    sizes = _sizes(wanted)
    _require_space(wanted, sizes, to, keep)
    for archive in wanted:
        _get(archive, sizes[archive.task][0], to, keep, console)
    _tell_licence(tasks, console)
    _say(console, f"check what came: python -m bench data check {to}")


def _named(names: tuple[str, ...]) -> list[str]:
    """Task names, each once, in the order they were given; DataError names those that are unknown."""
    known = [task.name for task in DECATHLON]
    problems = []
    for name in names:
        if name not in (*known, "all"):
            near = [task for task in known if name.lower() in task.lower()] or difflib.get_close_matches(name, known)
            hint = f"did you mean {near[0]!r}? " if near else ""
            problems.append(f"unknown task {name!r}; {hint}available: all, {', '.join(known)}")
    if problems:
        raise DataError("\n".join(problems))
    return list(dict.fromkeys(task for name in names for task in (known if name == "all" else [name])))


def _is_here(folder: Path) -> bool:
    if folder.exists() and not (folder / "dataset.json").is_file():
        raise DataError(f"{folder}: is there, but has no dataset.json; remove it, or give another folder with --to")
    return folder.exists()


def _sizes(wanted: list[Archive]) -> dict[str, tuple[int, int]]:
    """Bytes of each archive, and those of it that are still to come."""
    return {archive.task: size_of(archive, to_stderr) for archive in wanted}


def _require_space(wanted: list[Archive], sizes: dict[str, tuple[int, int]], to: Path, keep: bool) -> None:
    """An archive is not compressed: it unpacks to about its own size. Without `keep` one lies here at a time."""
    needs = [(to, sum(sizes[archive.task][0] for archive in wanted))]
    if wanted:
        coming = [sizes[archive.task][1] for archive in wanted]
        needs.append((wanted[0].kept.parent, sum(coming) if keep else max(coming)))
    require_space(needs)


def _get(archive: Archive, size: int, to: Path, keep: bool, console: Console) -> None:
    target = to / archive.task
    to_stderr(f"{archive.task}: {gigabytes(size)} from {archive.address}")

    def watch(stage: str) -> WorkBar:
        return WorkBar(f"{archive.task}: {stage}", "bytes")

    with holding(archive):
        if _is_here(target):  # another process was first
            return _say(console, f"{target}: is there already")
        path = fetch(archive, to_stderr, watch)

        def write(folder: Path) -> None:
            with watch("unpacking") as bar:
                unpack(path, archive.task, folder, bar.update)

        with writing(target):
            write_once(target, write)
        if not keep and not archive.local:
            path.unlink(missing_ok=True)
    _say(console, f"{target}: unpacked" + (f"; archive kept at {path}" if keep and not archive.local else ""))


def _tell_licence(tasks: list[str], console: Console) -> None:
    rows = [task for task in DECATHLON if task.name in tasks]
    for licence, source in dict.fromkeys((task.licence, task.source) for task in rows):
        _say(console, f"licence: {licence}; source: {source}")
    _say(console, f"please cite: {CITATION}")


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False)
