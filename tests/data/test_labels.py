"""Merged labels: made of the native label before anything is resampled, and named by the task's own name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.check import case_facts, check_task
from bench.data.folder import DataError, merged_name, open_task, read_case, read_label, task_names
from bench.data.preparation import Preparation, fit_preparation
from bench.data.volumes import prepare_case

Make = Callable[..., Path]


def test_merged_is_what_is_above_nought_on_the_native_grid(tiny_msd: Path) -> None:
    official, merged = open_task(tiny_msd, "Task99_Tiny"), open_task(tiny_msd, "Task99_Tiny-binary")
    assert merged.spec.name == "Task99_Tiny-binary" and merged.spec.labels == ("foreground",)
    assert "merged" in merged.spec.notice and official.spec.notice == ""
    assert task_names(tiny_msd) == ["Task99_Tiny"]
    for a, b in zip(official.cases, merged.cases, strict=True):
        assert (a.id, a.patient, a.images, a.label) == (b.id, b.patient, b.images, b.label)
        assert {1, 2} <= set(np.unique(read_label(a)))
        np.testing.assert_array_equal(read_label(b), read_label(a) > 0)
        np.testing.assert_array_equal(read_case(b).image, read_case(a).image)


def test_the_two_are_never_taken_for_each_other(tiny_msd: Path) -> None:
    """Facts and prepared cases are shared by digest: a merged label needs one of its own."""
    official, merged = open_task(tiny_msd, "Task99_Tiny"), open_task(tiny_msd, "Task99_Tiny-binary")
    assert check_task(merged).problems == ()
    assert check_task(merged).digest != check_task(official).digest
    facts = [case_facts(folder.cases[0]) for folder in (official, merged)]
    assert facts[0].image_digest == facts[1].image_digest and facts[0].label_digest != facts[1].label_digest
    assert facts[1].counts == {0: facts[0].counts[0], 1: facts[0].counts[1] + facts[0].counts[2]}
    coarse = Preparation((4.0, 4.0, 6.0))
    a, b = (prepare_case(folder.cases[0], coarse).label() for folder in (official, merged))
    assert set(np.unique(b)) == {0, 1} and set(np.unique(a)) == {0, 1, 2}


def test_a_boundary_between_two_classes_is_none_after_merging(tmp_path: Path, make_task: Make) -> None:
    """The published code resized label values linearly and took what was above 0, which swells every organ."""
    folder = make_task(tmp_path, cases=2)
    label = np.zeros((20, 20, 20), np.uint8)
    label[4:10, 4:16, 4:16], label[10:16, 4:16, 4:16] = 1, 2
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / "tiny_0.nii.gz")
    case = open_task(tmp_path, "Task99_Tiny-binary").cases[0]
    prepared = prepare_case(case, Preparation((4.0, 4.0, 6.0))).label()
    volume_mm3 = prepared.sum() * 4 * 4 * 6
    assert volume_mm3 == pytest.approx((label > 0).sum() * 2 * 2 * 3, rel=0.01)


def test_a_value_that_no_class_has_is_not_hidden_by_merging(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=2)
    path = folder / "labelsTr" / "tiny_1.nii.gz"
    image = nib.load(path)
    nib.save(
        nib.Nifti1Image(np.where(np.asarray(image.dataobj) == 2, 7, image.dataobj).astype(np.uint8), image.affine), path
    )
    (problem,) = check_task(open_task(tmp_path, "Task99_Tiny-binary")).problems
    assert "value(s) 7 are not in dataset.json, which declares 0 to 2" in problem


def test_a_task_whose_own_name_ends_so_is_itself(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path, "Lesion-binary", cases=2)
    assert open_task(tmp_path, "Lesion-binary").spec.labels == ("blob", "dot")
    assert merged_name(tmp_path, "Lesion-binary") == "Lesion-binary-binary"
    assert open_task(tmp_path, "Lesion-binary-binary").spec.labels == ("foreground",)
    make_task(tmp_path, "Lesion", cases=2)
    assert open_task(tmp_path, "Lesion-binary").spec.labels == ("blob", "dot")
    with pytest.raises(DataError, match="--labels binary: Lesion would be named Lesion-binary, which is another task"):
        merged_name(tmp_path, "Lesion")


def test_a_merged_name_stays_as_it_is(tiny_msd: Path) -> None:
    assert merged_name(tiny_msd, "Task99_Tiny") == merged_name(tiny_msd, "Task99_Tiny-binary") == "Task99_Tiny-binary"
    with pytest.raises(DataError, match=r"unknown task 'Task98_Tiny-binary'"):
        open_task(tiny_msd, "Task98_Tiny-binary")


def test_any_layout_can_be_merged(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path / "x", "A", cases=2)
    lines = [f"{folder}/imagesTr/tiny_{n}.nii.gz,{folder}/labelsTr/tiny_{n}.nii.gz\n" for n in (0, 1)]
    path = tmp_path / "mine.csv"
    path.write_text("image,label\n" + "".join(lines))
    task = open_task(path, "mine-binary")
    assert task.spec.labels == ("foreground",) and {case.merged for case in task.cases} == {2}
    assert check_task(task).problems == ()


def test_ct_is_scaled_by_the_merged_foreground(tiny_msd: Path) -> None:
    fitted = [
        fit_preparation(open_task(tiny_msd, name).cases, (True,)) for name in ("Task99_Tiny", "Task99_Tiny-binary")
    ]
    assert fitted[0] == fitted[1]
