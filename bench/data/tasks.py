"""The tasks as data: what a task is, and the ten rows of the Medical Segmentation Decathlon."""

from __future__ import annotations

from dataclasses import dataclass

#: The tolerance of NSD in mm where a task has none of its own.
TOLERANCE = 2.0


@dataclass(frozen=True)
class TaskSpec:
    """One segmentation task. labels are the foreground classes, in the order of their values 1, 2, …

    origin is `phantom` (generated) or `images`; notice is printed wherever the task's numbers are shown.
    training and test are the published numbers of cases (0 where there is no publication). tolerance is that of
    NSD, in mm.
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
    tolerance: float = TOLERANCE


_MSD = "Medical Segmentation Decathlon, http://medicaldecathlon.com, arXiv 1902.09063"
_CC = "CC-BY-SA-4.0"


#: Of NSD, in mm, one a task: what clinicians chose for the challenge (Antonelli et al. 2022, doi
#: 10.1038/s41467-022-30695-9). Written down from memory: compare them with the paper before you cite them.
_TOLERANCES = dict(zip(range(1, 11), (5.0, 4.0, 7.0, 1.0, 4.0, 2.0, 5.0, 3.0, 3.0, 4.0), strict=True))


def _msd(name: str, modality: str, training: int, test: int, channels: str, labels: str) -> TaskSpec:
    split = lambda text: tuple(part.strip() for part in text.split(","))  # noqa: E731
    far = _TOLERANCES[int(name[4:6])]
    return TaskSpec(
        name, modality, split(channels), split(labels), _MSD, _CC, training=training, test=test, tolerance=far
    )


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
