"""Opening a task folder: what it says of itself, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bench.data.folder import DataError, open_task, read_case, task_names
from tests.conftest import edit_task


def test_root_or_task_folder(tiny_msd: Path) -> None:
    for root in (tiny_msd, tiny_msd / "Task99_Tiny"):
        assert task_names(root) == ["Task99_Tiny"]
        folder = open_task(root, "Task99_Tiny")
        assert folder.spec.channels == ("CT",)
        assert folder.spec.modality == "CT"
        assert folder.spec.labels == ("blob", "dot")
        assert folder.spec.origin == "images"
        assert folder.spec.licence == "CC0-1.0"
        assert folder.spec.source == "made by a test"
        assert [case.id for case in folder.cases] == [f"tiny_{n}" for n in range(6)]
        assert folder.cases[0].patient == "tiny_0"


def test_case_on_the_native_grid(tiny_msd: Path) -> None:
    image, label, affine, spacing = read_case(open_task(tiny_msd, "Task99_Tiny").cases[0])
    assert image.shape == (1, 20, 20, 20)
    assert image.dtype == np.float32
    assert label.shape == (20, 20, 20)
    assert set(np.unique(label)) == {0, 1, 2}
    assert affine.shape == (4, 4)
    assert spacing == (2.0, 2.0, 3.0)


def test_channels_patients_and_scale_factor(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    folder = make_task(tmp_path, channels=("T2", "ADC"), patients={"tiny_0": "p", "tiny_1": "p"})
    path = folder / "imagesTr" / "tiny_0.nii.gz"
    image = nib.load(path)
    stored = np.asarray(image.dataobj)
    image.header.set_slope_inter(0.5, 3)
    raw = nib.Nifti1Image(stored * 0.5 + 3, image.affine, image.header)
    nib.save(raw, path)
    task = open_task(tmp_path, "Task99_Tiny")
    assert task.spec.modality == "MRI"
    assert [case.patient for case in task.cases[:3]] == ["p", "p", "tiny_2"]
    np.testing.assert_allclose(read_case(task.cases[0]).image[1], stored[..., 1] * 0.5 + 3, atol=0.5)


def test_unknown_task_names_the_nearest(tiny_msd: Path) -> None:
    with pytest.raises(DataError, match=r"unknown task 'Task99_Tini' .* did you mean 'Task99_Tiny'\?"):
        open_task(tiny_msd, "Task99_Tini")


def test_missing_folder_and_missing_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        task_names(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no dataset\.json in"):
        task_names(tmp_path)
    (tmp_path / "Task01_X").mkdir()
    with pytest.raises(DataError, match=r"Task01_X has no dataset\.json"):
        open_task(tmp_path, "Task01_X")


@pytest.mark.parametrize("text", ["../out.nii.gz", "/etc/passwd", "imagesTr/../../x.nii.gz", "."])
@pytest.mark.parametrize("key", ["image", "label"])
def test_paths_stay_inside(tmp_path: Path, make_task: Callable[..., Path], key: str, text: str) -> None:
    folder = make_task(tmp_path, cases=2)
    entry = {"image": "imagesTr/tiny_0.nii.gz", "label": "labelsTr/tiny_0.nii.gz"} | {key: text}
    edit_task(folder, training=[entry])
    with pytest.raises(DataError, match=rf"training\[0\]: {key} .* leads out of the task folder"):
        open_task(tmp_path, "Task99_Tiny")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": None}, "needs 'labels'"),
        ({"training": {}}, "needs 'training' as a JSON array"),
        ({"modality": {"1": "CT"}}, "'modality' must be numbered"),
        ({"labels": {"0": "background"}}, "no foreground class"),
        ({"training": [{"image": "imagesTr/tiny_0.nii.gz"}]}, r"training\[0\] has no 'label'"),
        ({"training": ["imagesTr/tiny_0.nii.gz"]}, r"training\[0\] has no 'image'"),
    ],
)
def test_broken_json(tmp_path: Path, make_task: Callable[..., Path], changes: dict[str, Any], text: str) -> None:
    edit_task(make_task(tmp_path, cases=2), **changes)
    with pytest.raises(DataError, match=text):
        open_task(tmp_path, "Task99_Tiny")


def test_json_that_is_none(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    (make_task(tmp_path, cases=2) / "dataset.json").write_text('{"name": ')
    with pytest.raises(DataError, match="cannot be read as JSON"):
        open_task(tmp_path, "Task99_Tiny")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300])
def test_names_in_dataset_json_that_are_no_paths_are_told(
    tmp_path: Path, make_task: Callable[..., Path], name: str
) -> None:
    folder = make_task(tmp_path, cases=2)
    body = json.loads((folder / "dataset.json").read_text())
    body["training"][1]["image"] = f"./imagesTr/{name}.nii.gz"
    edit_task(folder, training=body["training"])
    with pytest.raises(DataError, match=r"dataset.json: .*image .*imagesTr/.*(can be no path|File name too long)"):
        open_task(tmp_path, folder.name)
