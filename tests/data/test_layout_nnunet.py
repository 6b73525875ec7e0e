"""nnU-Net's layouts: what lies in them opens to the same cases as MSD's, and each wrong turn has its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bench.data.check import check_task
from bench.data.folder import DataError, open_task, read_case
from bench.data.preparation import fit_preparation
from bench.data.volumes import prepare_case

Make = Callable[..., Path]


def apart(folder: Path, channels: int) -> None:
    """Take the images of a task apart, a file a channel, as nnU-Net has them."""
    for path in sorted((folder / "imagesTr").glob("*.nii.gz")):
        image = nib.load(path)
        array = np.asarray(image.dataobj)
        array = array[..., None] if array.ndim == 3 else array
        for n in range(channels):
            name = path.name.replace(".nii.gz", f"_{n:04d}.nii.gz")
            nib.save(nib.Nifti1Image(array[..., n], image.affine), path.with_name(name))
        path.unlink()


def declare(folder: Path, **changes: Any) -> None:
    """Write the folder's dataset.json; a key that is None is left out."""
    path = folder / "dataset.json"
    path.write_text(json.dumps({key: value for key, value in changes.items() if value is not None}))


def nnunet(make: Make, root: Path, channels: tuple[str, ...] = ("T1", "FLAIR"), cases: int = 4, **changes: Any) -> Path:
    folder = make(root, "Dataset004_Tiny", cases=cases, channels=channels)
    apart(folder, len(channels))
    body = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": {"dot": 2, "background": 0, "blob": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    declare(folder, **(body | changes))
    return folder


def test_nnunet_opens_to_what_msd_does(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path / "msd", "Task", cases=4, channels=("T1", "FLAIR"))
    nnunet(make_task, tmp_path / "raw", patients={"tiny_0": "p", "tiny_3": "p"})
    ours, theirs = open_task(tmp_path / "msd", "Task"), open_task(tmp_path / "raw", "Dataset004_Tiny")
    assert theirs.spec.channels == ours.spec.channels and theirs.spec.labels == ("blob", "dot")
    assert theirs.spec.modality == "MRI" and theirs.layout == "nnU-Net"
    assert [case.patient for case in theirs.cases] == ["p", "tiny_1", "tiny_2", "p"]
    for a, b in zip(ours.cases, theirs.cases, strict=True):
        assert a.id == b.id and len(b.images) == 2
        for left, right in zip(read_case(a), read_case(b), strict=True):
            np.testing.assert_array_equal(left, right)
    assert check_task(theirs).problems == ()
    assert check_task(theirs).shapes == check_task(ours).shapes


def test_prepared_alike_from_one_file_or_many(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path / "msd", "Task", cases=2, channels=("PET", "CT"))
    nnunet(make_task, tmp_path / "raw", ("PET", "CT"), cases=2)
    prepared = []
    for root, name in ((tmp_path / "msd", "Task"), (tmp_path / "raw", "Dataset004_Tiny")):
        folder = open_task(root, name)
        assert folder.spec.modality == "PET+CT"
        prepared.append(prepare_case(folder.cases[0], fit_preparation(folder.cases, (False, True))))
    np.testing.assert_array_equal(prepared[0].image(), prepared[1].image())
    assert prepared[0].image_path != prepared[1].image_path


@pytest.mark.parametrize("image", ["A", "B"])
def test_every_channel_file_is_part_of_the_digest(tmp_path: Path, make_task: Make, image: str) -> None:
    folder = nnunet(make_task, tmp_path)
    before = check_task(open_task(tmp_path, folder.name)).digest
    path = folder / "imagesTr" / f"tiny_2_000{'AB'.index(image)}.nii.gz"
    loaded = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(loaded.dataobj) + 1, loaded.affine), path)
    assert check_task(open_task(tmp_path, folder.name)).digest != before


def test_the_first_version_of_nnunet_is_msd_with_channels_apart(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=2, channels=("T2", "ADC"))
    whole = [read_case(case) for case in open_task(tmp_path, "Task99_Tiny").cases]
    apart(folder, 2)
    task = open_task(tmp_path, "Task99_Tiny")
    assert [path.name for path in task.cases[1].images] == ["tiny_1_0000.nii.gz", "tiny_1_0001.nii.gz"]
    assert [case.id for case in task.cases] == ["tiny_0", "tiny_1"]
    for case, volume in zip(task.cases, whole, strict=True):
        np.testing.assert_array_equal(read_case(case).image, volume.image)
    assert check_task(task).problems == ()


def test_nnunet_with_a_list_of_files(tmp_path: Path, make_task: Make) -> None:
    folder = nnunet(make_task, tmp_path, ("CT",))
    files = {
        f"c{n}": {"images": [f"imagesTr/tiny_{n}_0000.nii.gz"], "label": f"labelsTr/tiny_{n}.nii.gz"} for n in (0, 2)
    }
    body = json.loads((folder / "dataset.json").read_text()) | {"numTraining": 2}
    declare(folder, **body, dataset=files)
    task = open_task(tmp_path, folder.name)
    assert [case.id for case in task.cases] == ["c0", "c2"] and check_task(task).problems == ()
    files["c0"]["label"] = "../elsewhere.nii.gz"
    declare(folder, **body, dataset=files)
    with pytest.raises(DataError, match=r"dataset\['c0'\]: label '../elsewhere.nii.gz' leads out of the task folder"):
        open_task(tmp_path, folder.name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "label 'whole' is a region"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "'ignore' label is not supported"),
        ({"labels": {"background": 0, "a": 2}}, "without a gap"),
        ({"labels": {"background": 0}}, "must map names to 0, 1, 2"),
        ({"labels": {"0": "background", "1": "a"}}, "must map names to 0, 1, 2"),
        ({"labels": {"a": 0, "background": 1}}, "label 0 must be 'background'; found 'a'"),
        ({"channel_names": {"1": "CT"}}, "'channel_names' must be numbered"),
        ({"file_ending": ".png"}, "file_ending '.png' is not NIfTI"),
        ({"file_ending": None}, "needs 'file_ending' as text"),
        ({"patients": {"tiny_9": "p"}}, "'patients' names 'tiny_9', which is no case"),
        (
            {"patients": {"tiny_0": None, "tiny_1": None}},
            "'patients' gives 'tiny_0' None; a patient is a text or a whole",
        ),
        ({"patients": {"tiny_0": ["p"]}}, "'patients' gives 'tiny_0' ['p']"),
        ({"patients": ["p"]}, "'patients' must be a JSON object"),
    ],
)
def test_what_nnunet_can_say_and_we_cannot_do(
    tmp_path: Path, make_task: Make, changes: dict[str, Any], words: str
) -> None:
    folder = nnunet(make_task, tmp_path, cases=2, **changes)
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        open_task(tmp_path, folder.name)
    assert str(folder / "dataset.json") in str(caught.value) and "\n" not in str(caught.value)


def test_nnunet_names_every_lonely_file_at_once(tmp_path: Path, make_task: Make) -> None:
    folder = nnunet(make_task, tmp_path, cases=6)
    (folder / "imagesTr" / "tiny_1_0001.nii.gz").unlink()
    (folder / "labelsTr" / "tiny_2.nii.gz").unlink()
    (folder / "imagesTr" / "tiny_3_0000.nii.gz").rename(folder / "imagesTr" / "tiny_3_0002.nii.gz")
    (folder / "imagesTr" / "odd.nii.gz").write_bytes(b"")
    (folder / "imagesTr" / "._tiny_0_0000.nii.gz").write_bytes(b"hidden leftovers are no images")
    text = "\n".join(check_task(open_task(tmp_path, folder.name)).problems)
    for words in (
        "tiny_1_0001.nii.gz: file of channel 1 of 2 is missing",
        "tiny_2: image without a label",
        "tiny_3_0000.nii.gz: file of channel 0 of 2 is missing",
        "tiny_3_0002.nii.gz: channel 2, but dataset.json declares 2",
        "odd.nii.gz: has no channel number",
    ):
        assert words in text
    assert len(text.splitlines()) == 5


def test_nnunet_counts_its_cases(tmp_path: Path, make_task: Make) -> None:
    folder = nnunet(make_task, tmp_path, cases=3, numTraining=4)
    (problem,) = check_task(open_task(tmp_path, folder.name)).problems
    assert "numTraining is 4, but there are 3 cases" in problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array, affine: (array[:-1], affine), r"tiny_1_0001.nii.gz: shape \(19, 20, 20\) differs from"),
        (lambda array, affine: (array, affine + shifted(5)), "affine lies 2.5 voxels"),
    ],
)
def test_channels_of_a_case_share_their_grid(tmp_path: Path, make_task: Make, change: Any, words: str) -> None:
    folder = nnunet(make_task, tmp_path, cases=2)
    path = folder / "imagesTr" / "tiny_1_0001.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(*change(np.asarray(image.dataobj), image.affine)), path)
    task = open_task(tmp_path, folder.name)
    (problem,) = check_task(task).problems
    assert re.search(words, problem) and "tiny_1_0001.nii.gz" in problem and "first channel's" in problem
    with pytest.raises(DataError, match=words):
        read_case(task.cases[1])


def shifted(mm: float) -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[0, 3] = mm
    return affine


def test_every_damaged_channel_is_named(tmp_path: Path, make_task: Make) -> None:
    folder = nnunet(make_task, tmp_path, cases=2)
    for n in (0, 1):
        (folder / "imagesTr" / f"tiny_0_000{n}.nii.gz").write_bytes(b"GIF89a" * 100)
    problems = check_task(open_task(tmp_path, folder.name)).problems
    assert [Path(text.split(":")[0]).name for text in problems] == ["tiny_0_0000.nii.gz", "tiny_0_0001.nii.gz"]
