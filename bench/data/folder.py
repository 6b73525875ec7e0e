"""The tasks of a data folder, whatever their layout: MSD, nnU-Net raw, or a CSV file of images and labels.

A name that ends in `-binary` opens the task before it with all foreground merged into one label.
"""

from __future__ import annotations

import difflib
import shlex
from dataclasses import replace
from pathlib import Path

from bench.data.cases import Case, TaskFolder, Volume, case_id, read_case, read_label
from bench.data.layouts.declared import FILE, read_declared
from bench.data.layouts.msd import open_msd
from bench.data.layouts.nnunet import open_nnunet
from bench.data.layouts.table import is_table, open_table
from bench.data.nifti import DataError

__all__ = [
    "MERGED", "Case", "DataError", "TaskFolder", "Volume", "case_id", "merged_name", "open_task",
    "read_case", "read_label", "task_names",
]  # fmt: skip

#: What a task's name ends in where its labels are merged.
MERGED = "-binary"
FOREGROUND = "foreground"


def task_names(root: Path) -> list[str]:
    """The names of the tasks of `root`; DataError if there is none.

    `root` is a folder of task folders and CSV tasks, a task folder itself, or a CSV file.
    """
    return sorted(_places(Path(root)))


def open_task(root: Path, name: str) -> TaskFolder:
    """Open task `name` of `root`, which is what `task_names` takes.

    Reads `dataset.json` or the CSV only (and the labels of a CSV that does not name its classes); `check_task` reads
    the images. DataError names the file and what is wrong with it.
    """
    root = Path(root)
    if (root / name).is_dir() and not (root / name / FILE).is_file():
        raise DataError(f"{root / name} has no {FILE}; every task folder needs one (MSD or nnU-Net layout)")
    places = _places(root)
    if name in places:  # also where the task's own name ends as merged ones do
        return _open(name, places[name])
    base = name.removesuffix(MERGED)
    if base != name and base in places:
        return _merge(_open(base, places[base]))
    near = difflib.get_close_matches(name, places, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"unknown task {name!r} in {root}; {hint}available: {', '.join(sorted(places))}")


def merged_name(root: Path, name: str) -> str:
    """The name by which `open_task` opens task `name` with merged labels; DataError if another task has that name."""
    names = task_names(root)
    if name not in names and name.endswith(MERGED):
        return name
    if name + MERGED in names:
        raise DataError(
            f"--labels binary: {name} would be named {name + MERGED}, which is another task of {root}; rename one"
        )
    return name + MERGED


def _places(root: Path) -> dict[str, Path]:
    """Task name → its folder or CSV file."""
    if root.is_file():
        if root.suffix.lower() != ".csv":
            raise DataError(f"{root}: is a file, but no CSV; give a folder of tasks, a task folder or a .csv file")
        return {root.stem: root}
    if not root.is_dir():
        raise DataError(
            f"data folder {root} does not exist; give a folder that holds Task folders, or a CSV file; "
            f"`python -m bench data sample --to {shlex.quote(str(root))}` makes a small one"
        )
    if (root / FILE).is_file():
        return {root.resolve().name: root}
    folders = {p.parent.name: p.parent for p in root.glob(f"*/{FILE}") if not p.parent.name.startswith(".")}
    found = sorted(p for p in root.glob("*.[cC][sS][vV]") if not p.name.startswith(".") and is_table(p))
    tables = {p.stem: p for p in found}
    if len(tables) < len(found):
        name = next(p.stem for p in found if tables[p.stem] != p)
        raise DataError(f"{root}: task {name!r} is in two CSV files; rename one of them")
    if both := sorted(set(folders) & set(tables)):
        raise DataError(f"{root}: task {both[0]!r} is a folder and a CSV file; rename one of them")
    if not folders and not tables:
        example = root / "Task04_Hippocampus" / FILE
        raise DataError(
            f"no {FILE} in {root} or in a folder of it, and no CSV with columns image and label; "
            f"expected for instance {example}"
        )
    return folders | tables


def _open(name: str, place: Path) -> TaskFolder:
    if place.is_file():
        return open_table(place)
    body = read_declared(place)
    return (open_nnunet if "channel_names" in body else open_msd)(name, place, body)


def _merge(folder: TaskFolder) -> TaskFolder:
    spec = folder.spec
    notice = " ".join(filter(None, (spec.notice, "All foreground labels are merged into one.")))
    merged = replace(spec, name=spec.name + MERGED, labels=(FOREGROUND,), notice=notice)
    cases = tuple(replace(case, merged=len(spec.labels)) for case in folder.cases)
    return replace(folder, spec=merged, cases=cases)
