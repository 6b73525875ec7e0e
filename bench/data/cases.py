"""What a case and a task folder are, whatever layout they come from, and the only reader of a case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.data.channels import read_channels
from bench.data.nifti import DataError, read_nifti, spacing_of
from bench.data.tasks import TaskSpec


@dataclass(frozen=True)
class Case:
    """One labelled image. Cases of one patient never stand on both sides of a split.

    images: one file of all channels, or one a channel. merged: how many classes of the label file are read as one
    foreground, 1; 0 where they are read as they are.
    """

    id: str
    images: tuple[Path, ...]
    label: Path
    patient: str
    merged: int = 0

    @property
    def image(self) -> Path:
        """The first image file: what messages name."""
        return self.images[0]


@dataclass(frozen=True)
class TaskFolder:
    """A task as it lies on disk: what it is, where it is, and its labelled cases in the order of their ids.

    source is the file that declares it. problems: one line each, of what was found wrong when it was opened, such as an
    image without a label; `check_task` reports them with its own.
    """

    spec: TaskSpec
    path: Path
    cases: tuple[Case, ...]
    source: Path
    layout: str = "MSD"
    problems: tuple[str, ...] = ()


class Volume(NamedTuple):
    """A case on its native grid: image (C, X, Y, Z) float32, label (X, Y, Z) uint8, affine (4, 4), spacing in mm."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]


def read_case(case: Case) -> Volume:
    """Read a case on its native grid; DataError if a file is damaged or they do not fit together."""
    image = read_channels(case.images)
    label = read_label(case)
    array_XYZC = image.array if image.array.ndim == 4 else image.array[..., None]
    if array_XYZC.shape[:3] != label.shape:
        raise DataError(f"{case.label}: shape {label.shape} differs from its image's {array_XYZC.shape[:3]}")
    image_CXYZ = np.ascontiguousarray(np.moveaxis(array_XYZC, 3, 0), dtype=np.float32)
    return Volume(image_CXYZ, label, image.affine, spacing_of(image.affine))


def read_label(case: Case) -> np.ndarray:
    """The label (X, Y, Z) uint8 of a case on its native grid; DataError if a value is no integer from 0 to 255.

    Merged classes are made one here, before anything is resampled: a boundary between two of them is none.
    """
    array = read_nifti(case.label).array
    label = array.astype(np.uint8) if np.isfinite(array).all() else None
    if label is None or not np.array_equal(label, array):
        raise DataError(f"{case.label}: label values must be integers from 0 to 255")
    return (label > 0).astype(np.uint8) if case.merged else label


def case_id(path: Path) -> str:
    """The file's name without `.nii` or `.nii.gz`."""
    return path.name.removesuffix(".gz").removesuffix(".nii")
