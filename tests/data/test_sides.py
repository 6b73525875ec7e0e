"""The two sides of a split: no image on both, and what is odd about them is said before the first trial."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.check import check_task
from bench.data.folder import open_task
from bench.data.sides import look_at_sides
from bench.data.splits import make_split

Make = Callable[..., Path]


def look(
    root: Path, folds: tuple[int, ...] | str = "all", fractions: tuple[float, ...] = (1.0,)
) -> tuple[list[str], list[str]]:
    return look_at_sides(open_task(root, "Task99_Tiny"), folds, fractions)  # type: ignore[arg-type]


def image(folder: Path, number: int) -> Path:
    return folder / "imagesTr" / f"tiny_{number}.nii.gz"


def test_a_good_task_has_neither_problems_nor_notices(tiny_msd: Path) -> None:
    assert look(tiny_msd) == ([], [])


def resaved(source: Path, target: Path) -> None:
    """The same voxels under another header, another type and another affine."""
    loaded = nib.load(source)
    copy = nib.Nifti1Image(np.asarray(loaded.dataobj).astype(np.float32), np.diag([1.0, 1, 1, 1]))
    copy.header["descrip"] = b"another"
    nib.save(copy, target)
    label = target.parent.parent / "labelsTr" / target.name
    nib.save(nib.Nifti1Image(np.asarray(nib.load(label).dataobj), copy.affine), label)


def reoriented(source: Path, target: Path) -> None:
    """The same image along other axes, as another program stores it."""
    turn = nib.orientations.axcodes2ornt("LPS")
    nib.save(nib.load(source).as_reoriented(turn), target)
    label = target.parent.parent / "labelsTr" / target.name
    nib.save(nib.load(label).as_reoriented(turn), label)


def under_another_header(source: Path, target: Path) -> None:
    """The same stored array, said to lie along other axes: a header that was lost and made up again."""
    array = np.asarray(nib.load(source).dataobj)
    turned = np.array([[0.0, -3, 0, 5], [2, 0, 0, 0], [0, 0, -2, 9], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(array, turned), target)
    label = target.parent.parent / "labelsTr" / target.name
    nib.save(nib.Nifti1Image(np.asarray(nib.load(label).dataobj), turned), label)


COPIES = {
    "copied": shutil.copy,
    "saved anew": resaved,
    "reoriented": reoriented,
    "under another header": under_another_header,
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_one_image_on_both_sides_names_both_files(tmp_path: Path, make_task: Make, copy: Callable[..., object]) -> None:
    folder = make_task(tmp_path, cases=6)
    split = make_split(open_task(tmp_path, "Task99_Tiny").cases, 0)
    trained, held_out = (folder / "imagesTr" / f"{side[0]}.nii.gz" for side in (split.train, split.held_out))
    copy(trained, held_out)
    (problem,), notices = look(tmp_path, (0,))
    assert str(trained) in problem and str(held_out) in problem and "fold 0" in problem and notices == []
    assert problem.startswith("Task99_Tiny: ") and "\n" not in problem


def test_one_image_twice_on_one_side_is_a_notice(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=6)
    a, b = make_split(open_task(tmp_path, "Task99_Tiny").cases, 0).train[:2]
    shutil.copy(folder / "imagesTr" / f"{a}.nii.gz", folder / "imagesTr" / f"{b}.nii.gz")
    problems, _ = look(tmp_path, (0,))
    (notice,) = check_task(open_task(tmp_path, "Task99_Tiny")).notices
    assert problems == [] and f"{a}.nii.gz" in notice and f"{b}.nii.gz" in notice and "same image" in notice
    problems, _ = look(tmp_path)
    assert len(problems) == 1, "some fold of all parts them"


def test_images_of_one_patient_never_part(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=6, patients={"tiny_0": "p", "tiny_1": "p"})
    shutil.copy(image(folder, 0), image(folder, 1))
    problems, _ = look(tmp_path)
    assert problems == [] and len(check_task(open_task(tmp_path, "Task99_Tiny")).notices) == 1


def test_one_channel_is_enough_and_an_empty_one_is_not(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=5, channels=("T1", "T2"))
    for number in range(5):
        loaded = nib.load(image(folder, number))
        array = np.array(loaded.dataobj)
        array[..., 1] = 0  # a sequence that was not taken
        nib.save(nib.Nifti1Image(array, loaded.affine), image(folder, number))
    assert look(tmp_path) == ([], [])
    first, last = nib.load(image(folder, 0)), nib.load(image(folder, 4))
    array = np.array(last.dataobj)
    array[..., 1] = np.asarray(first.dataobj)[..., 0]
    nib.save(nib.Nifti1Image(array, last.affine), image(folder, 4))
    (problem,), _ = look(tmp_path)
    assert "tiny_0.nii.gz (channel 0)" in problem and "tiny_4.nii.gz (channel 1)" in problem


def test_two_equal_channels_of_one_case_are_no_copy_of_a_case(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=5, channels=("T1", "T2"))
    loaded = nib.load(image(folder, 0))
    array = np.array(loaded.dataobj)
    array[..., 1] = array[..., 0]
    nib.save(nib.Nifti1Image(array, loaded.affine), image(folder, 0))
    assert check_task(open_task(tmp_path, "Task99_Tiny")).notices == () and look(tmp_path) == ([], [])


def test_a_channels_own_file_is_named(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, "Task99_Tiny", cases=5)
    for path in sorted((folder / "imagesTr").glob("*.nii.gz")):
        path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    for number in range(5):
        source = nib.load(folder / "imagesTr" / f"tiny_{number}_0000.nii.gz")
        moved = np.asarray(source.dataobj) + 1
        nib.save(nib.Nifti1Image(moved, source.affine), folder / "imagesTr" / f"tiny_{number}_0001.nii.gz")
    body = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "a": 1, "b": 2}}
    (folder / "dataset.json").write_text(json.dumps(body | {"file_ending": ".nii.gz"}))
    assert look(tmp_path) == ([], [])
    shutil.copy(folder / "imagesTr" / "tiny_0_0001.nii.gz", folder / "imagesTr" / "tiny_3_0001.nii.gz")
    (problem,), _ = look(tmp_path)
    assert "tiny_0_0001.nii.gz" in problem and "tiny_3_0001.nii.gz" in problem


def test_fractions_that_keep_the_same_cases_are_told(tiny_msd: Path) -> None:
    problems, (notice,) = look(tiny_msd, (0, 1), (0.1, 0.15, 1.0))
    assert problems == [] and "--fraction 0.1 and 0.15 keep the same training cases in fold 0, 1" in notice


def test_every_bad_fold_is_told(tiny_msd: Path) -> None:
    problems, _ = look(tiny_msd, (0, 7, 9))
    assert [text.split(":")[1].strip() for text in problems] == ["--folds 7", "--folds 9"]


def test_a_training_side_without_foreground_is_told(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=6)
    (kept,) = make_split(open_task(tmp_path, "Task99_Tiny").cases, 0, fraction=0.1).train
    path = folder / "labelsTr" / f"{kept}.nii.gz"
    loaded = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(loaded.shape, np.uint8), loaded.affine), path)
    assert look(tmp_path, (0,)) == ([], [])
    (problem,), _ = look(tmp_path, (0,), (0.1, 1.0))
    assert "no training case of fold 0 at --fraction 0.1 has any foreground" in problem
