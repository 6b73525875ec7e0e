"""The layout of the Medical Segmentation Decathlon, which nnU-Net's first version shared.

`dataset.json` has `modality` and `labels`, numbered from "0", and `training`, a list of image and label; files lie in
`imagesTr` and `labelsTr`. `patients` (case id → patient), `notice` and `origin` are ours. nnU-Net's first version lists
`imagesTr/a.nii.gz` where the files are `a_0000.nii.gz`, `a_0001.nii.gz`, one a channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data.cases import Case, TaskFolder, case_id
from bench.data.layouts.declared import FILE, inside, need, numbered, patients_of, spec_of
from bench.data.nifti import DataError


def open_msd(name: str, path: Path, body: dict[str, Any]) -> TaskFolder:
    """The task `name` in the folder path, whose `dataset.json` is body; DataError says what is wrong with it."""
    need(body, path, "MSD", modality=dict, labels=dict, training=list)
    channels, labels = numbered(body, "modality", path), numbered(body, "labels", path)[1:]
    if not labels:
        raise DataError(f"{path / FILE}: 'labels' has no foreground class; found only \"0\"")
    spec = spec_of(name, path / FILE, channels, labels, body)
    return TaskFolder(spec, path, _cases_of(body, path, len(channels)), path / FILE)


def _cases_of(body: dict[str, Any], path: Path, channels: int) -> tuple[Case, ...]:
    files = []
    for number, entry in enumerate(body["training"]):
        values = entry if isinstance(entry, dict) else {}
        image, label = (inside(path, values.get(key), key, f"training[{number}]") for key in ("image", "label"))
        files.append((image, label))
    patients = patients_of(body, [case_id(image) for image, _ in files], path)
    cases = [
        Case(case_id(image), _channels_of(image, channels, path / FILE), label, patients[case_id(image)])
        for image, label in files
    ]
    return tuple(sorted(cases, key=lambda case: case.id))


def _channels_of(image: Path, channels: int, source: Path) -> tuple[Path, ...]:
    """The file that is listed, or the files of its channels where only those are there."""
    stem = case_id(image)
    apart = tuple(image.with_name(f"{stem}_{n:04d}{image.name.removeprefix(stem)}") for n in range(channels))
    try:
        return (image,) if image.is_file() or not apart[0].is_file() else apart
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise DataError(
            f"{source}: image {str(image)!r} cannot be looked for ({error.strerror}); correct it"
        ) from error
