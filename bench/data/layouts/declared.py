"""What the layouts with a `dataset.json` have in common, and how a modality is told from the names of channels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.data.nifti import DataError
from bench.data.tasks import DECATHLON, TOLERANCE, TaskSpec

FILE = "dataset.json"
_MRI = {"mr", "t1", "t1w", "t1gd", "t1ce", "t1c", "t2", "t2w", "flair", "adc", "dwi", "pd"}


def read_declared(folder: Path) -> dict[str, Any]:
    """The body of the folder's `dataset.json`; DataError if it is no JSON object."""
    path = folder / FILE
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(body, dict):
        raise DataError(f"{path}: needs a JSON object with 'labels' and the names of the channels")
    return body


def need(body: Mapping[str, Any], folder: Path, layout: str, **wanted: type) -> None:
    """DataError if a key is missing or of another kind."""
    for key, kind in wanted.items():
        if not isinstance(body.get(key), kind):
            what = "text" if kind is str else f"a JSON {'object' if kind is dict else 'array'}"
            raise DataError(f"{folder / FILE}: needs {key!r} as {what} ({layout} layout)")


def numbered(body: Mapping[str, Any], key: str, folder: Path) -> tuple[str, ...]:
    """The names of `{"0": name, "1": name, …}` in the order of their numbers, which must have no gap."""
    entries = body[key]
    expected = [str(number) for number in range(len(entries))]
    if not entries or sorted(entries) != sorted(expected):
        found = ", ".join(map(str, entries)) or "nothing"
        raise DataError(f'{folder / FILE}: {key!r} must be numbered "0", "1", … without a gap; found {found}')
    return tuple(str(entries[number]) for number in expected)


def spec_of(
    name: str,
    source: Path,
    channels: tuple[str, ...],
    labels: tuple[str, ...],
    body: Mapping[str, Any],
    modality: str = "",
) -> TaskSpec:
    """The task, with what `dataset.json` says of its origin, and what is published of it if it is one of the ten.

    DataError, naming source, if two classes have one name: scores are kept by name.
    """
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        values = " and ".join(str(value) for value, label in enumerate(labels, 1) if label == twice[0])
        raise DataError(f"{source}: labels {values} are all named {twice[0]!r}; give each class a name of its own")
    known = {task.name: task for task in DECATHLON}.get(name)
    return TaskSpec(
        name=name,
        modality=known.modality if known else modality or modality_of(channels),
        channels=channels,
        labels=labels,
        source=str(body.get("reference", "")),
        licence=str(body.get("licence", "")),
        origin=str(body.get("origin", "images")),
        notice=str(body.get("notice", "")),
        training=known.training if known else 0,
        test=known.test if known else 0,
        tolerance=known.tolerance if known else TOLERANCE,
    )


def modality_of(channels: Iterable[str]) -> str:
    """CT, MRI for what are names of its sequences, and else the names themselves: `PET`, `PET+CT`."""
    names = list(dict.fromkeys(channel.strip() for channel in channels))
    words = {name.lower() for name in names}
    if words == {"ct"}:
        return "CT"
    return "MRI" if all(word in _MRI or word.endswith("mri") for word in words) else "+".join(names)


def patients_of(body: Mapping[str, Any], ids: Iterable[str], folder: Path) -> dict[str, str]:
    """Case id → patient, from `patients`; a case that it does not name is a patient of its own."""
    given = body.get("patients") or {}
    if not isinstance(given, dict):
        raise DataError(f"{folder / FILE}: 'patients' must be a JSON object of case id and patient")
    own = {name: name for name in ids}
    if strange := sorted(set(given) - set(own)):
        raise DataError(f"{folder / FILE}: 'patients' names {strange[0]!r}, which is no case; correct or remove it")
    for name, patient in given.items():
        if type(patient) not in (str, int) or patient == "":
            raise DataError(
                f"{folder / FILE}: 'patients' gives {name!r} {patient!r}; a patient is a text or a whole number"
            )
    return own | {str(name): str(patient) for name, patient in given.items()}


def can_be_a_path(text: str) -> bool:
    """Whether a system can be asked for a file of this name at all: no NUL, and no half of a character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def inside(folder: Path, text: Any, key: str, where: str) -> Path:
    """The file that an entry names; its text must not lead out of the folder (a link in the folder may)."""
    if not isinstance(text, str) or not text:
        raise DataError(f"{folder / FILE}: {where} has no {key!r}; every training case needs an image and a label")
    if not can_be_a_path(text):
        raise DataError(f"{folder / FILE}: {where}: {key} {text!r} can be no path; correct it")
    relative = os.path.normpath(text)
    if os.path.isabs(relative) or relative.split(os.sep)[0] in ("..", "."):
        raise DataError(f"{folder / FILE}: {where}: {key} {text!r} leads out of the task folder; give a path inside it")
    return folder / relative
