"""The layouts of a task: what lies in them opens to the same cases, and each wrong turn has its line."""

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
from bench.data.folder import DataError, open_task, read_case, task_names
from bench.data.preparation import fit_preparation
from bench.data.splits import make_split
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


def table(make: Make, root: Path, text: str, name: str = "mine.csv", **options: Any) -> Path:
    """A CSV in root, and two tasks' images below `root/x` for it to name."""
    make(root / "x", "A", **({"cases": 4} | options))
    path = root / name
    path.write_text(text)
    return path


def rows(cases: int = 4, patient: str = "p{0}", extra: str = "") -> str:
    line = "x/A/imagesTr/tiny_{0}.nii.gz,x/A/labelsTr/tiny_{0}.nii.gz," + patient + extra
    return "".join(line.format(n) + "\n" for n in range(cases))


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


def test_a_csv_is_a_task(tmp_path: Path, make_task: Make) -> None:
    path = table(make_task, tmp_path, "image ,Label,patient,note\n" + rows(4, "p{0}", ",x"))
    path.write_text(path.read_text().replace("p3", "p0"))
    (tmp_path / "labels.json").write_text('{"blob": 1, "dot": 2}')
    (tmp_path / "other.csv").write_text("age,weight\n1,2\n")
    for root in (tmp_path, path):
        assert task_names(root) == ["mine"]
        task = open_task(root, "mine")
        assert task.spec.labels == ("blob", "dot") and task.layout == "CSV"
        assert [case.id for case in task.cases] == [f"tiny_{n}" for n in range(4)]
        assert [case.patient for case in task.cases] == ["p0", "p1", "p2", "p0"]
        assert check_task(task).problems == ()
    assert make_split(task.cases, 0).folds == 3


def test_a_csv_beside_task_folders(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path, "Task", cases=2)
    (tmp_path / "more.csv").write_text("image,label\nTask/imagesTr/tiny_0.nii.gz,Task/labelsTr/tiny_0.nii.gz\n")
    assert task_names(tmp_path) == ["Task", "more"]
    (tmp_path / "more.csv").rename(tmp_path / "Task.csv")
    with pytest.raises(DataError, match="task 'Task' is a folder and a CSV file"):
        task_names(tmp_path)


def test_csv_channels_apart_or_in_columns(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path / "x", "A", cases=2, channels=("CT",))
    make_task(tmp_path / "x", "B", cases=2, channels=("PET",), seed=9)
    one, two = (f"x/{name}/imagesTr/tiny_{{}}.nii.gz" for name in "AB")
    label = "x/A/labelsTr/tiny_{}.nii.gz"
    joined = "image,label,case,modality\n" + "".join(
        f"{one};{two},{label},c{{}},CT;PET\n".format(n, n, n, n) for n in (0, 1)
    )
    columns = "image_1,image_0,label,id\n" + "".join(f"{two},{one},{label},c{{}}\n".format(n, n, n, n) for n in (0, 1))
    (tmp_path / "joined.csv").write_text(joined)
    (tmp_path / "columns.csv").write_text("\ufeff" + columns, encoding="utf-8")
    a, b = (open_task(tmp_path, name) for name in ("joined", "columns"))
    assert a.cases == b.cases and [case.id for case in a.cases] == ["c0", "c1"]
    assert (a.spec.channels, a.spec.modality) == (("CT", "PET"), "CT+PET")
    assert (b.spec.channels, b.spec.modality) == (("channel 0", "channel 1"), "unknown")
    assert read_case(a.cases[0]).image.shape == (2, 20, 20, 20)
    assert a.spec.labels == ("label 1", "label 2")
    assert check_task(a).problems == ()


def test_csv_of_4d_images_with_names_in_toml(tmp_path: Path, make_task: Make) -> None:
    path = table(make_task, tmp_path, "image,label,patient\n" + rows(), channels=("a", "b", "c"))
    assert open_task(path, "mine").spec.channels == ("channel 0", "channel 1", "channel 2")
    named = 'channels = ["x", "y", "z"]\nmodality = "ultrasound"\nlicence = "CC0"\n[labels]\n2 = "dot"\n1 = "blob"\n'
    (tmp_path / "labels.toml").write_text("wrong = [")
    (tmp_path / "mine.labels.toml").write_text(named)
    spec = open_task(path, "mine").spec
    assert (spec.channels, spec.labels, spec.modality) == (("x", "y", "z"), ("blob", "dot"), "ultrasound")
    assert spec.licence == "CC0"
    assert check_task(open_task(path, "mine")).problems == ()


def test_csv_paths_may_be_absolute_and_ids_tell_folders_apart(tmp_path: Path, make_task: Make) -> None:
    for name in ("one", "two"):
        make_task(tmp_path / name, "T", cases=1, seed=len(name))
    lines = [f"{tmp_path / n / 'T/imagesTr/tiny_0.nii.gz'},../{n}/T/labelsTr/tiny_0.nii.gz" for n in ("one", "two")]
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "mine.csv"
    path.write_text("image,label\n" + "\n".join(lines) + "\n\n")
    task = open_task(path, "mine")
    assert [case.id for case in task.cases] == ["one-T-imagesTr-tiny_0", "two-T-imagesTr-tiny_0"]
    assert check_task(task).problems == ()


HEAD = "image,label,patient\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,mask\na,b\n", "needs columns image (or image_0, image_1, …) and label; found image, mask"),
        ("image_0,image_2,label\na,b,c\n", "without a gap; found image_0, image_2"),
        ("image,image_0,label\na,b,c\n", "give either image, or image_0"),
        ("image,label,label\na,b,c\n", "column 'label' is there twice"),
        (HEAD, "has no row below"),
        ("", "needs columns image"),
        ("image,label,case\na,b,../c\n", "line 2: case '../c' is no name"),
        ("image,label,Patient_ID\na,b,p\n", "rename column 'patient_id' to 'patient'"),
        ("image,label,subject\na,b,p\n", "rename column 'subject' to 'patient'"),
        ("image,label,modality\na,b,CT\nc,d,MRI\n", "modality is CT, MRI; a task has one modality"),
    ],
)
def test_csv_that_cannot_be_opened(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(words)):
        open_task(path, "mine")


def test_csv_in_another_encoding_or_binary(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("image,label,patient\na,b,M\xfcller\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"cannot be read as CSV .* UTF-8"):
        open_task(path, "mine")
    other = tmp_path / "scan.nii.gz"
    other.write_bytes(b"")
    with pytest.raises(DataError, match="is a file, but no CSV"):
        task_names(other)


def test_csv_rows_are_all_told_by_their_lines(tmp_path: Path, make_task: Make) -> None:
    bad = "x/A/imagesTr/tiny_0.nii.gz,,p\n;,l,p\na,b,\na,b,c,d\nx/A/imagesTr/no.nii.gz,x/A/labelsTr/tiny_0.nii.gz,q\n"
    path = table(make_task, tmp_path, HEAD + rows() + bad)
    text = "\n".join(check_task(open_task(path, "mine")).problems)
    for words in (
        "line 6: label is empty", "line 7: image is empty", "line 8: patient is empty",
        "line 9: more cells than columns", "no.nii.gz: file is missing",
    ):  # fmt: skip
        assert words in text
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize("cell", ["~nosuchuser/x.nii", "a\0b.nii", "x" * 300 + ".nii"])
def test_csv_cells_that_are_no_paths_are_told(tmp_path: Path, make_task: Make, cell: str) -> None:
    path = table(make_task, tmp_path, HEAD + rows() + f"{cell},x/A/labelsTr/tiny_0.nii.gz,q\n")
    (problem,) = check_task(open_task(path, "mine")).problems
    assert cell in problem or repr(cell) in problem
    assert ("mine.csv: line 6" in problem) == (len(cell) < 300)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300])
def test_names_in_dataset_json_that_are_no_paths_are_told(tmp_path: Path, make_task: Make, name: str) -> None:
    folder = make_task(tmp_path, cases=2)
    body = json.loads((folder / "dataset.json").read_text())
    body["training"][1]["image"] = f"./imagesTr/{name}.nii.gz"
    declare(folder, **body)
    with pytest.raises(DataError, match=r"dataset.json: .*image .*imagesTr/.*(can be no path|File name too long)"):
        open_task(tmp_path, folder.name)


def test_two_classes_of_one_name_are_refused(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path / "msd", cases=2, labels=("tumour", "liver", "tumour"))
    with pytest.raises(DataError, match=r"dataset\.json: labels 1 and 3 are all named 'tumour'"):
        open_task(tmp_path / "msd", "Task99_Tiny")
    path = table(make_task, tmp_path, HEAD + rows())
    (tmp_path / "labels.json").write_text('["tumour", "tumour"]')
    with pytest.raises(DataError, match=r"mine\.csv: labels 1 and 2 are all named 'tumour'"):
        open_task(path, "mine")


def test_a_csv_in_capitals(tmp_path: Path, make_task: Make) -> None:
    table(make_task, tmp_path, HEAD + rows(), "MINE.CSV")
    assert task_names(tmp_path) == ["MINE"]
    (tmp_path / "MINE.csv").write_text(HEAD + rows())
    with pytest.raises(DataError, match="task 'MINE' is in two CSV files"):
        task_names(tmp_path)


def test_csv_with_one_image_twice(tmp_path: Path, make_task: Make) -> None:
    path = table(make_task, tmp_path, HEAD + rows() + rows(1))
    (problem,) = check_task(open_task(path, "mine")).problems
    assert "mine.csv: case id 'tiny_0' is listed 2 times" in problem


def test_csv_labels_with_a_gap_or_another_number_of_channels(tmp_path: Path, make_task: Make) -> None:
    path = table(make_task, tmp_path, HEAD + rows())
    label = tmp_path / "x/A/labelsTr/tiny_0.nii.gz"
    image = nib.load(label)
    nib.save(nib.Nifti1Image(np.where(np.asarray(image.dataobj) > 0, 255, 0).astype(np.uint8), image.affine), label)
    with pytest.raises(DataError, match="label values are 1, 2, 255; classes must be 1, 2, … without a gap"):
        open_task(path, "mine")
    (tmp_path / "labels.json").write_text('["blob", "dot"]')
    path.write_text(
        path.read_text() + "x/A/imagesTr/tiny_1.nii.gz;x/A/imagesTr/tiny_2.nii.gz,x/A/labelsTr/tiny_1.nii.gz,q\n"
    )
    problems = check_task(open_task(path, "mine")).problems
    assert any("value(s) 255 are not in mine.csv, which declares 0 to 2" in text for text in problems)
    assert any("2 channel(s), but mine.csv declares 1" in text for text in problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1', "cannot be read as JSON"),
        ('{"a": 1, "b": 1}', "needs class names and values"),
        ('{"a": 2}', "numbered 1, 2, … without a gap; found 2"),
        ("[]", "needs class names"),
        ("7", "needs class names"),
        ('{"a": "b"}', "needs class names"),
        ('{"labels": {"a": 1}, "colour": "red"}', "unknown key 'colour'; known: labels, channels"),
        ('{"labels": ["a"], "channels": "CT"}', "channels must be a list"),
    ],
)
def test_names_beside_a_csv_that_cannot_be(tmp_path: Path, make_task: Make, text: str, words: str) -> None:
    path = table(make_task, tmp_path, HEAD + rows(2), cases=2)
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        open_task(path, "mine")
    assert "labels.json" in str(caught.value)


@pytest.mark.parametrize(
    "text", ['{"0": "background", "1": "a", "2": "b"}', '{"b": 2, "background": 0, "a": 1}', '["a", "b"]']
)
def test_class_names_whichever_way_they_are_written(tmp_path: Path, make_task: Make, text: str) -> None:
    path = table(make_task, tmp_path, HEAD + rows(2), cases=2)
    (tmp_path / "labels.json").write_text(text)
    assert open_task(path, "mine").spec.labels == ("a", "b")
