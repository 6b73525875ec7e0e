"""The tables of `bench data check`: for a person, and through a pipe."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from bench.check_view import CASE_COLUMNS, TASK_COLUMNS, show_check
from bench.work_bar import WorkBar
from tests.bench.door import bench


@pytest.fixture
def folder(tmp_path: Path, make_task: Callable[..., Path]) -> Path:
    """A good CT task, an MRI task of two channels with one label of another shape, and one that cannot be opened."""
    make_task(tmp_path, cases=4)
    damaged = make_task(tmp_path, name="Task98_MR", channels=("T2", "ADC"), cases=3) / "labelsTr" / "tiny_2.nii.gz"
    label = nib.load(damaged)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[:-1], label.affine), damaged)
    (make_task(tmp_path, name="Task97_Broken", cases=1) / "dataset.json").write_text("[]")
    return tmp_path


def rows(text: str) -> list[dict[str, str]]:
    head, *lines = [line.split("\t") for line in text.splitlines() if "\t" in line]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_a_row_a_task_through_a_pipe(folder: Path) -> None:
    done = bench("data", "check", str(folder))
    broken, mr, ct = rows(done.stdout)
    assert done.returncode == 1 and tuple(ct) == TASK_COLUMNS
    assert (ct["task"], ct["modality"], ct["cases"], ct["channels"]) == ("Task99_Tiny", "CT", "4", "CT")
    assert (ct["shape"], ct["spacing (mm)"], ct["problems"]) == ("20 × 20 × 20", "2 × 2 × 3", "0")
    counts = dict(re.findall(r"(\w+)=(\d+)", ct["voxels by label"]))
    assert list(counts) == ["background", "blob", "dot"] and sum(map(int, counts.values())) == 4 * 8000
    assert mr["problems"] == "1" and broken == dict.fromkeys(TASK_COLUMNS, "") | {
        "task": "Task97_Broken",
        "problems": "1",
    }
    assert done.stdout.count("problem: ") == 2


def test_a_row_a_case(folder: Path) -> None:
    done = bench("data", "check", str(folder), "--cases", "--tasks", "Task98_MR")
    found = rows(done.stdout)
    assert [row["case"] for row in found] == ["tiny_0", "tiny_1", "tiny_2"] and tuple(found[0]) == CASE_COLUMNS
    assert [row["problems"] for row in found] == ["0", "0", "1"]
    name = next(column for column in CASE_COLUMNS if column.startswith("intensity"))
    image = np.asarray(nib.load(folder / "Task98_MR/imagesTr/tiny_0.nii.gz").dataobj)
    first, second = (part.split(": ") for part in found[0][name].split("; "))
    assert (first[0], second[0]) == ("T2", "ADC")
    levels = [float(value) for value in second[1].split(", ")]
    assert levels[0] == image[..., 1].min() and levels[-1] == image[..., 1].max()
    assert levels[3] == pytest.approx(image[..., 1].mean(), rel=1e-3)


def test_ranges_over_cases_of_different_size(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    small = make_task(tmp_path / "a", cases=2, size=16)
    folder = make_task(tmp_path / "b", cases=3)
    for part in ("imagesTr", "labelsTr"):
        (folder / part / "tiny_1.nii.gz").write_bytes((small / part / "tiny_1.nii.gz").read_bytes())
    (row,) = rows(bench("data", "check", str(folder)).stdout)
    assert row["shape"] == "20 × 20 × 20 (16–20 × 16–20 × 16–20)"


@pytest.mark.parametrize("width", [80, 220])
def test_a_person_sees_a_table_or_blocks_that_fit(folder: Path, width: int) -> None:
    seen = io.StringIO()
    console = Console(file=seen, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    assert show_check(folder, (), console) == 1
    text = seen.getvalue()
    assert ("┃" in text) == (width == 220)
    for word in ("Task97_Broken", "Task98_MR", "Task99_Tiny", "20 × 20 × 20", "2 × 2 × 3", "background="):
        assert word in text
    shown = [line for line in text.splitlines() if "problem: " not in line]
    assert max(map(len, shown)) <= width


def test_a_task_that_is_not_there(folder: Path) -> None:
    done = bench("data", "check", str(folder), "--tasks", "Task98_MP")
    assert done.returncode == 1 and "did you mean 'Task98_MR'" in done.stdout


def test_plain_lines_say_how_far_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that was done before the first call does not make the rest look fast."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    seen = io.StringIO()
    with WorkBar("Task04", "bytes", Console(file=seen, width=200)) as bar:
        for passed, done in ((0, 500), (5, 550), (10, 600), (3, 650), (10, 700)):
            clock[0] += passed
            bar.update(done * 10**6, 1000 * 10**6)
    assert seen.getvalue().splitlines() == [
        "Task04: 600 of 1000 MB (60 s left)",
        "Task04: 700 of 1000 MB (42 s left)",
    ]
