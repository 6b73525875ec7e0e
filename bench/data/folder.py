"""A task folder in the layout of the Medical Segmentation Decathlon: `dataset.json`, `imagesTr`, `labelsTr`."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

from bench.data.cases import Case, TaskFolder, Volume, case_id, read_case, read_label
from bench.data.nifti import DataError
from bench.data.tasks import DECATHLON, TaskSpec

__all__ = ["Case", "DataError", "TaskFolder", "Volume", "open_task", "read_case", "read_label", "task_names"]

_MRI = {"mr", "mri", "t1", "t1w", "t1gd", "t1ce", "t2", "t2w", "flair", "adc", "dwi", "pd"}


def task_names(root: Path) -> list[str]:
    """The names of the task folders in `root`, or of `root` itself; DataError if there is none."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist; give a folder that holds Task folders")
    if (root / "dataset.json").is_file():
        return [root.resolve().name]
    names = sorted(p.parent.name for p in root.glob("*/dataset.json") if not p.parent.name.startswith("."))
    if not names:
        example = root / "Task04_Hippocampus" / "dataset.json"
        raise DataError(f"no dataset.json in {root} or in a folder of it; expected for instance {example}")
    return names


def open_task(root: Path, name: str) -> TaskFolder:
    """Open task `name` of `root`, which is the folder of the Task folders or the task folder itself.

    Reads `dataset.json` only; `check_task` reads the images. DataError names the file and what is wrong with it.
    """
    root = Path(root)
    if (root / name).is_dir() and not (root / name / "dataset.json").is_file():
        raise DataError(f"{root / name} has no dataset.json; every task folder needs one (MSD layout)")
    names = task_names(root)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"unknown task {name!r} in {root}; {hint}available: {', '.join(names)}")
    path = root if (root / "dataset.json").is_file() else root / name
    body = _read_json(path / "dataset.json")
    return TaskFolder(_spec_of(name, body, path), path, _cases_of(body, path), path / "dataset.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    wanted = {"modality": dict, "labels": dict, "training": list}
    for key, kind in wanted.items():
        if not isinstance(body, dict) or not isinstance(body.get(key), kind):
            raise DataError(f"{path}: needs {key!r} as a JSON {'object' if kind is dict else 'array'} (MSD layout)")
    return body


def _numbered(body: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """The names of `{"0": name, "1": name, …}` in the order of their numbers, which must have no gap."""
    entries = body[key]
    expected = [str(number) for number in range(len(entries))]
    if not entries or sorted(entries) != sorted(expected):
        found = ", ".join(map(str, entries)) or "nothing"
        raise DataError(f'{path / "dataset.json"}: {key!r} must be numbered "0", "1", … without a gap; found {found}')
    return tuple(str(entries[number]) for number in expected)


def _spec_of(name: str, body: dict[str, Any], path: Path) -> TaskSpec:
    channels, labels = _numbered(body, "modality", path), _numbered(body, "labels", path)[1:]
    if not labels:
        raise DataError(f"{path / 'dataset.json'}: 'labels' has no foreground class; found only \"0\"")
    known = {task.name: task for task in DECATHLON}.get(name)
    return TaskSpec(
        name=name,
        modality=known.modality if known else _modality_of(channels),
        channels=channels,
        labels=labels,
        source=str(body.get("reference", "")),
        licence=str(body.get("licence", "")),
        origin=str(body.get("origin", "images")),
        notice=str(body.get("notice", "")),
        training=known.training if known else 0,
        test=known.test if known else 0,
    )


def _modality_of(channels: tuple[str, ...]) -> str:
    words = {channel.strip().lower() for channel in channels}
    if words == {"ct"}:
        return "CT"
    return "MRI" if words <= _MRI else "+".join(dict.fromkeys(channels))


def _cases_of(body: dict[str, Any], path: Path) -> tuple[Case, ...]:
    patients = body.get("patients") or {}
    cases = []
    for number, entry in enumerate(body["training"]):
        image, label = (_inside(path, entry, key, number) for key in ("image", "label"))
        cases.append(Case(case_id(image), (image,), label, str(patients.get(case_id(image), case_id(image)))))
    return tuple(sorted(cases, key=lambda case: case.id))


def _inside(path: Path, entry: Any, key: str, number: int) -> Path:
    """The file that a training entry names; its text must not lead out of the folder (a link in the folder may)."""
    where = f"{path / 'dataset.json'}: training[{number}]"
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str) or not entry[key]:
        raise DataError(f"{where} has no {key!r}; every training case needs an image and a label")
    relative = os.path.normpath(entry[key])
    if os.path.isabs(relative) or relative.split(os.sep)[0] in ("..", "."):
        raise DataError(f"{where}: {key} {entry[key]!r} leads out of the task folder; give a path inside it")
    return path / relative
