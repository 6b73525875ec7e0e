"""A CSV as a task: images, labels and patients in columns, names beside it, and each wrong turn with its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bench.data.check import check_task
from bench.data.folder import DataError, open_task, read_case, task_names
from bench.data.splits import make_split

Make = Callable[..., Path]


def table(make: Make, root: Path, text: str, name: str = "mine.csv", **options: Any) -> Path:
    """A CSV in root, and two tasks' images below `root/x` for it to name."""
    make(root / "x", "A", **({"cases": 4} | options))
    path = root / name
    path.write_text(text)
    return path


def rows(cases: int = 4, patient: str = "p{0}", extra: str = "") -> str:
    line = "x/A/imagesTr/tiny_{0}.nii.gz,x/A/labelsTr/tiny_{0}.nii.gz," + patient + extra
    return "".join(line.format(n) + "\n" for n in range(cases))


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
