"""`bench predict` at the door: a trained trial predicts images, and its labels lie where each image lies."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.folder import read_label
from bench.data.splits import make_split
from bench.trained import find_trial
from bench.trial import TrialJob
from tests.bench.door import bench
from tests.bench.predict_room import cases_of, counts, image_of, written


def test_held_out_cases_get_exactly_the_counts_of_the_record(trained_run, tmp_path):
    folder, job, record = trained_run
    cases = cases_of(job)
    names = make_split(tuple(cases.values()), job.spec.fold).held_out
    done = bench("predict", str(folder), *(str(image_of(cases[name])) for name in names), "--to", str(tmp_path))
    files = written(done)
    assert [file.name for file in files] == [f"{name}.nii.gz" for name in names]
    scores = {(score.case, score.label): score for score in record.cases}
    foreground = 0
    for name, file in zip(names, files, strict=True):
        prediction, reference = np.asanyarray(nib.load(file).dataobj), read_label(cases[name])
        for value, label in enumerate(record.task.labels, 1):
            score = scores[name, label]
            assert (score.tp, score.fp, score.fn) == counts(prediction, reference, value)
        foreground += int((prediction > 0).sum())
    assert foreground > 0, "a trial that finds nothing would show nothing"


def turned(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels as another scanner would store them, and where they lie."""
    base = np.diag([1.0, 2.0, 1.5, 1.0])
    if name == "flipped":
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        flip[0, 3] = image.shape[0] - 1
        return image[::-1], base @ flip
    if name == "swapped":
        swap = np.eye(4)[[2, 1, 0, 3]]
        return np.swapaxes(image, 0, 2), base @ swap
    angle = np.deg2rad(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = 31, -7, 12
    if name == "sheared":
        turn[0, 2] = 0.2
    return image, turn @ base


def back(label: np.ndarray, name: str) -> np.ndarray:
    return {"flipped": lambda a: a[::-1], "swapped": lambda a: np.swapaxes(a, 0, 2)}.get(name, lambda a: a)(label)


@pytest.mark.parametrize("name", ["flipped", "swapped", "oblique", "sheared"])
def test_labels_lie_where_their_image_lies(trained_run, tmp_path, name):
    """Turned voxels get turned labels; affine, shape and codes are the image's own."""
    folder, job, _ = trained_run
    source = nib.load(image_of(cases_of(job)["tiny_1"]))
    array, affine = turned(np.asanyarray(source.dataobj), name)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1)
    image.header["db_name"] = b"somebody"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a name"))
    nib.save(image, tmp_path / "turned.nii")
    (file,) = written(bench("predict", str(folder), str(tmp_path / "turned.nii"), "--to", str(tmp_path / "out")))
    assert file.name == "turned.nii"
    found, given = nib.load(file), nib.load(tmp_path / "turned.nii")
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-5)
    for form in ("get_sform", "get_qform"):
        (a, code), (b, other) = getattr(found, form)(coded=True), getattr(given, form)(coded=True)
        assert code == other
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert found.shape == array.shape[:3] and found.get_data_dtype() == np.uint8
    assert found.header["db_name"].item() == b"" and not found.header.extensions
    label = np.asanyarray(found.dataobj)
    assert label.any()
    if name in ("flipped", "swapped"):
        (plain,) = written(bench("predict", str(folder), str(image_of(cases_of(job)["tiny_1"])), "--to", str(tmp_path)))
        assert np.array_equal(back(label, name), np.asanyarray(nib.load(plain).dataobj))


def channel_files(job: TrialJob, folder: Path) -> list[Path]:
    """The two channels of a case as nnU-Net has them."""
    image = nib.load(image_of(cases_of(job)["tiny_2"]))
    folder.mkdir()
    for channel in range(2):
        part = nib.Nifti1Image(np.asanyarray(image.dataobj)[..., channel], image.affine)
        nib.save(part, folder / f"tiny_2_{channel:04}.nii.gz")
    return sorted(folder.iterdir())


def test_a_file_a_channel_a_folder_of_them_and_one_4d_file_give_the_same(trained_run, tmp_path):
    folder, job, _ = trained_run
    files = channel_files(job, tmp_path / "images")
    expected = None
    given = [[files[0]], files, [tmp_path / "images"], [image_of(cases_of(job)["tiny_2"])]]
    for number, paths in enumerate(given):
        done = bench("predict", str(folder), *map(str, paths), "--to", str(tmp_path / str(number)))
        (file,) = written(done)
        assert file.name == "tiny_2.nii.gz"
        array = np.asanyarray(nib.load(file).dataobj)
        assert expected is None or np.array_equal(array, expected)
        expected = array


def test_probabilities_are_4d_and_the_labels_are_their_largest(trained_run, tmp_path):
    folder, job, record = trained_run
    image = image_of(cases_of(job)["tiny_0"])
    (file,) = written(bench("predict", str(folder), str(image), "--to", str(tmp_path), "--probabilities"))
    stored = nib.load(tmp_path / "probabilities" / file.name)
    values = np.asanyarray(stored.dataobj)
    assert values.dtype == np.float32 and values.shape == (22, 22, 22, len(record.task.labels) + 1)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(stored.affine, nib.load(image).affine, atol=1e-5)
    assert (values.argmax(-1) == np.asanyarray(nib.load(file).dataobj)).mean() > 0.999
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probabilities", file.name]  # no draft stays


def test_a_trial_is_found_by_any_of_its_names(trained_run):
    folder, job, _ = trained_run
    spec = job.spec
    names = [
        "",
        spec.digest,
        spec.digest[:5],
        spec.key,
        f"{spec.task}/{spec.arm}",
        spec.task,
        f"trials/{spec.key}.json",
    ]
    assert [find_trial(folder / name).record.spec for name in names] == [spec] * len(names)
