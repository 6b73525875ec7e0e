"""`bench predict`: images in, NIfTI labels of a trained trial out, each on its own image's grid."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.console import Console

from bench.data.nifti import DataError
from bench.data.preparation import Preparation
from bench.data.volumes import prepare_image
from bench.errors import PredictionError
from bench.progress import TrialProgress, to_stderr
from bench.trained import Trained, find_trial, load_model
from results.record import TrialResult

_ENDINGS = (".nii.gz", ".nii")
#: A channel's file in the layout of nnU-Net: `case_0000.nii.gz`, `case_0001.nii.gz`, …
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
PROBABILITIES = "probabilities"


@dataclass(frozen=True)
class Image:
    """One image to predict: one file with channels last, or a file a channel; name is that of what is written."""

    case: str
    paths: tuple[Path, ...]

    @property
    def name(self) -> str:
        return self.case + _ending(self.paths[0])


def predict_images(
    trial: str | Path, given: Sequence[Path], to: Path, force: bool, probabilities: bool, console: Console
) -> list[Path]:
    """Write the labels of every image into folder `to`; returns the files, in order.

    Everything that can be wrong without reading voxels is looked at before the first image is predicted.
    PredictionError or DataError names the trial or the file. With probabilities, `to/probabilities` gets files of the
    same names.
    """
    trained = find_trial(trial)
    images = find_images(given, trained.record)
    _check_free(images, to, force, probabilities)
    to_stderr(f"predicting with {trained.record.spec.title}")
    if trained.record.task.notice:
        to_stderr(trained.record.task.notice)
    model = load_model(trained)
    written = []
    with TrialProgress({image.name: image.case for image in images}, console, "images") as progress:
        for image in images:
            written.append(_predict_one(trained, model, image, to, probabilities, progress))
    return written


def find_images(given: Sequence[Path], record: TrialResult) -> list[Image]:
    """The images among files and folders, channel files put together; names and channels are checked."""
    images = list(dict.fromkeys(image for path in given for image in _images_at(path)))
    names: dict[str, Image] = {}
    for image in images:
        other = names.setdefault(image.name, image)
        if other is not image:
            raise PredictionError(
                f"{image.paths[0]} and {other.paths[0]} would both be written as {image.name}; predict them apart"
            )
        _check_channels(image, record)
    return images


def _images_at(path: Path) -> Iterator[Image]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _ending(file) and not file.name.startswith("."))
        if not files:
            raise PredictionError(f"{path}: no .nii or .nii.gz file in this folder")
        yield from dict.fromkeys(_image_of(file) for file in files)
    elif not path.exists():
        raise PredictionError(f"{path}: no such file or folder")
    elif not _ending(path):
        raise PredictionError(f"{path}: is no .nii or .nii.gz file")
    else:
        yield _image_of(path)


def _image_of(path: Path) -> Image:
    """The image that a file is, or is a channel of; whichever channel's file is given, it is the whole image."""
    stem, ending = path.name.removesuffix(_ending(path)), _ending(path)
    match = _CHANNEL.fullmatch(stem)
    first = path.with_name(f"{match['case']}_0000{ending}") if match else path
    if not match or not first.exists():
        return Image(stem, (path,))
    paths = [first]
    while (following := path.with_name(f"{match['case']}_{len(paths):04}{ending}")).exists():
        paths.append(following)
    return Image(match["case"], tuple(paths))


def _ending(path: Path) -> str:
    return next((ending for ending in _ENDINGS if path.name.endswith(ending)), "")


def _check_channels(image: Image, record: TrialResult) -> None:
    shapes = [_open(path).shape for path in image.paths]
    found = sum(math.prod(shape[3:]) for shape in shapes)
    wanted = record.task.channels
    if found != len(wanted):
        files = "" if len(shapes) == 1 else f" in {len(shapes)} files"
        raise PredictionError(
            f"{image.paths[0]}: {found} channels{files}, and {record.spec.title} takes {len(wanted)}: "
            f"{', '.join(wanted)}; give one file with the channels last, or {image.case}_0000{_ending(image.paths[0])} "
            "and so on beside each other"
        )


def _open(path: Path) -> Any:
    """The file's header; its voxels are not read yet."""
    try:
        return nib.load(path)
    except Exception as error:  # nibabel raises many kinds for what is no image
        raise DataError(f"{path}: not a readable NIfTI file ({str(error).splitlines()[0]})") from error


def _check_free(images: Iterable[Image], to: Path, force: bool, probabilities: bool) -> None:
    if to.exists() and not to.is_dir():
        raise PredictionError(f"--to {to}: is a file; give a folder")
    folders = [to, to / PROBABILITIES] if probabilities else [to]
    targets = [folder / image.name for image in images for folder in folders]
    inputs = {path.resolve() for image in images for path in image.paths}
    if clash := [target for target in targets if target.resolve() in inputs]:
        raise PredictionError(f"--to {to}: {clash[0].name} would be written over its own image; give another folder")
    if (there := [target for target in targets if target.exists()]) and not force:
        raise PredictionError(
            f"{there[0]}: exists, as do {len(there)} of the {len(targets)} files to write; --force writes over them"
        )


def _predict_one(
    trained: Trained, model: Any, image: Image, to: Path, probabilities: bool, progress: TrialProgress
) -> Path:
    from bench.evaluate import Inference, predict_native

    record = trained.record
    prepared_CXYZ, grid = prepare_image(image.paths, Preparation.of(record.provenance["preparation"]))
    how = Inference.of(record.spec, model.config.image)
    classes = len(record.task.labels) + 1
    like = _open(image.paths[0])
    with _room((classes, *grid.native_shape) if probabilities else None, to) as into_KXYZ:
        label_XYZ = predict_native(
            model, prepared_CXYZ, grid, how, image.case,
            lambda done, of: progress.update(image.name, 0.95 * done / of), into_KXYZ,
        )  # fmt: skip
        if into_KXYZ is not None:
            write_nifti(to / PROBABILITIES / image.name, np.moveaxis(into_KXYZ, 0, -1), like, record.spec.digest)
    target = to / image.name
    write_nifti(target, label_XYZ, like, record.spec.digest)
    progress.update(image.name, 1.0)
    return target


@contextmanager
def _room(shape: tuple[int, ...] | None, to: Path) -> Iterator[Any]:
    """A float32 array of this shape that lies on the disk and not in memory, for as long as it is needed."""
    if shape is None:
        yield None
        return
    with _draft(to / "room") as path:
        yield np.memmap(path, dtype=np.float32, mode="w+", shape=shape)


def write_nifti(path: Path, array: np.ndarray, like: Any, digest: str) -> None:
    """Write an array (X, Y, Z) or (X, Y, Z, K) with the affine, qform and sform of an image, atomically.

    No extension is taken over: some scanners' hold the patient's name.
    """
    header = like.header.copy()
    header.extensions.clear()
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["pixdim"][4:] = 1
    for name in ("db_name", "aux_file", "intent_name"):
        if name in header:  # NIfTI-2 has fewer
            header[name] = b""
    header["descrip"] = f"predicted by trial {digest}".encode()
    header.set_intent("none")
    with _draft(path) as draft:
        nib.save(type(like)(array, like.affine, header), draft)
        draft.replace(path)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file beside the one to be written, which never stays; PredictionError where it cannot be written."""
    draft = path.with_name(f".{uuid.uuid4().hex}{_ending(path)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
    except OSError as error:
        raise PredictionError(
            f"{path}: cannot be written ({error.strerror or error}); give --to another folder"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
