"""The tasks as data: what a task is, and the ten rows of the Medical Segmentation Decathlon."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskSpec:
    """One segmentation task. labels are the foreground classes, in the order of their values 1, 2, …

    origin is `phantom` (generated) or `images`; notice is printed wherever the task's numbers are shown.
    training and test are the published numbers of cases (0 where there is no publication).
    """

    name: str
    modality: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    source: str = ""
    licence: str = ""
    origin: str = "images"
    notice: str = ""
    training: int = 0
    test: int = 0


_MSD = "Medical Segmentation Decathlon, http://medicaldecathlon.com, arXiv 1902.09063"
_CC = "CC-BY-SA-4.0"


def _msd(name: str, modality: str, training: int, test: int, channels: str, labels: str) -> TaskSpec:
    split = lambda text: tuple(part.strip() for part in text.split(","))  # noqa: E731
    return TaskSpec(name, modality, split(channels), split(labels), _MSD, _CC, training=training, test=test)


DECATHLON: tuple[TaskSpec, ...] = (
    _msd(
        "Task01_BrainTumour", "MRI", 484, 266, "FLAIR, T1w, T1gd, T2w", "edema, non-enhancing tumor, enhancing tumour"
    ),
    _msd("Task02_Heart", "MRI", 20, 10, "MRI", "left atrium"),
    _msd("Task03_Liver", "CT", 131, 70, "CT", "liver, cancer"),
    _msd("Task04_Hippocampus", "MRI", 260, 130, "MRI", "anterior, posterior"),
    _msd("Task05_Prostate", "MRI", 32, 16, "T2, ADC", "PZ, TZ"),
    _msd("Task06_Lung", "CT", 63, 32, "CT", "cancer"),
    _msd("Task07_Pancreas", "CT", 281, 139, "CT", "pancreas, cancer"),
    _msd("Task08_HepaticVessel", "CT", 303, 140, "CT", "vessel, tumour"),
    _msd("Task09_Spleen", "CT", 41, 20, "CT", "spleen"),
    _msd("Task10_Colon", "CT", 126, 64, "CT", "colon cancer primaries"),
)
