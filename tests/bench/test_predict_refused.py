"""What `bench predict` refuses: no image, trial or place to write, and a model that is not the trained one."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench import model_file
from bench.trained import find_trial, load_model
from results import store
from tests.bench.door import bench
from tests.bench.predict_room import cases_of, image_of, written


def unchanged(image: Path, tmp: Path) -> Path:
    return image


def no_file(image: Path, tmp: Path) -> Path:
    return tmp / "x.nii.gz"


def empty_folder(image: Path, tmp: Path) -> Path:
    (tmp / "empty").mkdir()
    return tmp / "empty"


def no_nifti(image: Path, tmp: Path) -> Path:
    (tmp / "x.nii").write_bytes(b"nothing")
    return tmp / "x.nii"


def truncated(image: Path, tmp: Path) -> Path:
    (tmp / "x.nii").write_bytes(gzip.decompress(image.read_bytes())[:-100])
    return tmp / "x.nii"


def one_channel(image: Path, tmp: Path) -> Path:
    source = nib.load(image)
    nib.save(nib.Nifti1Image(np.asanyarray(source.dataobj)[..., 0], source.affine), tmp / "x.nii.gz")
    return tmp / "x.nii.gz"


def exists(image: Path, tmp: Path) -> Path:
    (tmp / "out").mkdir()
    (tmp / "out" / image.name).write_bytes(b"precious")
    return image


def own_image(image: Path, tmp: Path) -> Path:
    (tmp / "out").mkdir()
    shutil.copy(image, tmp / "out")
    return tmp / "out"


def out_is_a_file(image: Path, tmp: Path) -> Path:
    (tmp / "out").write_text("")
    return image


def twice(image: Path, tmp: Path) -> Path:
    """A folder with the same name as an image of another one."""
    (tmp / "in").mkdir()
    for name in ("x.nii.gz", "x_0000.nii.gz"):
        shutil.copy(image, tmp / "in" / name)
    return tmp / "in"


WRONG = [
    (unchanged, "Task01/none", ["no such complete trial", "Task99_Tiny/none/0-0-"]),
    (unchanged, "../..", ["neither a run folder nor a trial"]),
    (no_file, "", ["x.nii.gz: no such file"]),
    (empty_folder, "", ["empty: no .nii or .nii.gz file"]),
    (no_nifti, "", ["x.nii: not a readable NIfTI file"]),
    (truncated, "", ["x.nii", "truncated"]),
    (one_channel, "", ["x.nii.gz: 1 channels", "takes 2: T1, T2"]),
    (exists, "", ["tiny_0.nii.gz", "--force"]),
    (own_image, "", ["over its own image"]),
    (out_is_a_file, "", ["--to", "is a file"]),
    (twice, "", ["would both be written as x.nii.gz"]),
]


@pytest.mark.parametrize(("make", "trial", "words"), WRONG, ids=[make.__name__ for make, *_ in WRONG])
def test_wrong_turns_are_told_in_a_line_and_nothing_is_written(trained_run, tmp_path, make, trial, words):
    folder, job, _ = trained_run
    image = make(image_of(cases_of(job)["tiny_0"]), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    where = folder.parents[1] if trial == "../.." else folder / trial
    done = bench("predict", str(where), str(image), "--to", str(tmp_path / "out"))
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == "", done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_force_writes_over_what_is_there(trained_run, tmp_path):
    folder, job, _ = trained_run
    image = image_of(cases_of(job)["tiny_0"])
    (tmp_path / image.name).write_bytes(b"old")
    (file,) = written(bench("predict", str(folder), str(image), "--to", str(tmp_path), "--force"))
    assert nib.load(file).shape == (22, 22, 22)


def copied(trained_run, tmp_path: Path) -> Path:
    shutil.copytree(trained_run[0], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("damage", ["gone", "changed", "exchanged"])
def test_a_model_that_is_not_the_stored_one_is_refused(trained_run, tmp_path, damage):
    folder = copied(trained_run, tmp_path)
    path = model_file.model_path(folder, trained_run[1].spec)
    if damage == "gone":
        path.unlink()
    elif damage == "changed":
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    else:
        model = load_model(find_trial(trained_run[0]))
        other = replace(trained_run[1].spec, seed=7)
        stored = model_file.save(tmp_path, other, model)
        shutil.copy(tmp_path / stored.file, path)
        (record,) = store.read(folder)
        text = record.to_json().replace(record.provenance["model"]["sha256"], stored.sha256)
        (folder / "trials" / f"{record.spec.key}.json").write_text(text)
    words = {"gone": "is gone", "changed": "not the model that was scored", "exchanged": "is of trial"}[damage]
    done = bench(
        "predict", str(folder), str(image_of(cases_of(trained_run[1])["tiny_0"])), "--to", str(tmp_path / "out")
    )
    assert done.returncode == 2 and words in done.stderr, done.stderr


def test_a_trial_whose_weights_are_not_numbers_names_the_image(trained_run, tmp_path):
    folder = copied(trained_run, tmp_path)
    model = load_model(find_trial(folder))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    stored = model_file.save(folder, trained_run[1].spec, model)
    (record,) = store.read(folder)
    text = record.to_json().replace(record.provenance["model"]["sha256"], stored.sha256)
    (folder / "trials" / f"{record.spec.key}.json").write_text(text)
    done = bench(
        "predict", str(folder), str(image_of(cases_of(trained_run[1])["tiny_3"])), "--to", str(tmp_path / "out")
    )
    assert done.returncode == 2 and "tiny_3: the network's output is not a number" in done.stderr
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
