"""The raw layout of nnU-Net, second version: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md.

`dataset.json` has `channel_names` ("0" → name), `labels` (name → value, `background` 0) and `file_ending`; images are
`imagesTr/<case>_0000<ending>`, one file a channel, labels `labelsTr/<case><ending>`. An optional `dataset` lists the
files of each case instead. `patients` (case id → patient) is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.data.cases import Case, TaskFolder
from bench.data.layouts.declared import FILE, inside, need, numbered, patients_of, spec_of
from bench.data.nifti import DataError

#: Files of a case: image files by channel, and the label.
_Files = tuple[dict[int, Path], Path | None]


def open_nnunet(name: str, path: Path, body: dict[str, Any]) -> TaskFolder:
    """The task `name` in the folder path, whose `dataset.json` is body; DataError says what is wrong with it.

    A case that lacks a file is left out and named among the folder's problems.
    """
    need(body, path, "nnU-Net", channel_names=dict, labels=dict, file_ending=str)
    if body["file_ending"] not in (".nii", ".nii.gz"):
        raise DataError(f"{path / FILE}: file_ending {body['file_ending']!r} is not NIfTI; convert to .nii.gz")
    channels, labels = numbered(body, "channel_names", path), _labels_of(body["labels"], path)
    problems: list[str] = []
    files = _listed(body["dataset"], path) if "dataset" in body else _found(path, body["file_ending"], problems)
    patients = patients_of(body, files, path)
    cases = []
    for case, (images, label) in sorted(files.items()):
        missing = [*_missing(path, case, body["file_ending"], len(channels), images, label)]
        problems += missing
        if label and not missing:
            cases.append(Case(case, tuple(images[n] for n in sorted(images)), label, patients[case]))
    number = body.get("numTraining", len(files))
    if number != len(files):
        problems.append(
            f"{path / FILE}: numTraining is {number}, but there are {len(files)} cases; correct one of them"
        )
    spec = spec_of(name, path / FILE, channels, labels, body)
    return TaskFolder(spec, path, tuple(cases), path / FILE, "nnU-Net", tuple(problems))


def _labels_of(entries: dict[str, Any], path: Path) -> tuple[str, ...]:
    """The foreground classes in the order of their values 1, 2, …"""
    where = path / FILE
    if regions := [name for name, value in entries.items() if isinstance(value, list)]:
        raise DataError(
            f"{where}: label {regions[0]!r} is a region, a list of values; regions overlap and are not "
            "supported: give each class one value"
        )
    if "ignore" in entries:
        raise DataError(
            f"{where}: an 'ignore' label is not supported, for every voxel is scored; give its voxels a class"
        )
    values = {name: value for name, value in entries.items() if type(value) is int}
    if len(values) < len(entries) or sorted(values.values()) != list(range(len(values))) or len(values) < 2:
        raise DataError(f"{where}: 'labels' must map names to 0, 1, 2, … without a gap; found {entries}")
    background, *labels = sorted(values, key=values.__getitem__)
    if background != "background":
        raise DataError(f"{where}: label 0 must be 'background'; found {background!r}")
    return tuple(labels)


def _listed(dataset: Any, path: Path) -> dict[str, _Files]:
    """Case → files, from `dataset`: `{case: {"images": [path, …], "label": path}}`."""
    if not isinstance(dataset, dict):
        raise DataError(f"{path / FILE}: 'dataset' must be a JSON object of case and files")
    files: dict[str, _Files] = {}
    for case, entry in dataset.items():
        values = entry if isinstance(entry, dict) else {}
        named, where = values.get("images"), f"dataset[{case!r}]"
        texts = named if isinstance(named, list) else [named]
        images = {n: inside(path, text, "images", where) for n, text in enumerate(texts)}
        files[case] = (images, inside(path, values.get("label"), "label", where))
    return files


def _found(path: Path, ending: str, problems: list[str]) -> dict[str, _Files]:
    """Case → files, from what lies in `imagesTr` and `labelsTr`."""
    images: dict[str, dict[int, Path]] = {}
    for file in _files(path / "imagesTr", ending):
        parts = re.fullmatch(r"(.+)_(\d{4})", file.name.removesuffix(ending))
        if parts:
            images.setdefault(parts[1], {})[int(parts[2])] = file
        else:
            problems.append(f"{file}: has no channel number; name it <case>_0000{ending}")
    labels = {file.name.removesuffix(ending): file for file in _files(path / "labelsTr", ending)}
    return {case: (images.get(case, {}), labels.get(case)) for case in images.keys() | labels.keys()}


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; the nnU-Net layout has imagesTr and labelsTr beside {FILE}")
    return sorted(file for file in folder.iterdir() if file.name.endswith(ending) and not file.name.startswith("."))


def _missing(
    path: Path, case: str, ending: str, channels: int, images: dict[int, Path], label: Path | None
) -> Iterator[str]:
    for n in range(channels):
        if n not in images:
            yield f"{path / 'imagesTr' / f'{case}_{n:04d}{ending}'}: file of channel {n} of {channels} is missing"
    for n in sorted(set(images) - set(range(channels))):
        yield f"{images[n]}: channel {n}, but {FILE} declares {channels}; name the channel there or remove the file"
    if label is None:
        yield f"{path / 'imagesTr' / case}: image without a label; add labelsTr/{case}{ending} or remove the image"
