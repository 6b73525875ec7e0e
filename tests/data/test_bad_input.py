"""Twenty-five kinds of bad input, each at the doors where it comes in, each with a message of its own.

A message names the file, says what was given, and what would work. Nobody sees a traceback.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

from tests.bench.door import bench
from tests.conftest import edit_task
from tests.data.archives import JSON, TASK, md5_of, member, write_bomb, write_tar
from tests.data.nifti_files import rewrite, set_voxel, write_nifti

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
IMAGE, LABEL = "imagesTr/tiny_1.nii.gz", "labelsTr/tiny_1.nii.gz"


class Kind(NamedTuple):
    """damage is done to a good task folder; message is a pattern for one whole line."""

    damage: Callable[[Path], object]
    message: str


def change(part: str, how: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = AFFINE) -> Callable[[Path], None]:
    """Write a file anew with other values."""

    def damage(folder: Path) -> None:
        rewrite(folder / part, how, affine)

    return damage


def pixdim(*sizes: float) -> Callable[[Path], None]:
    """An image whose only geometry are these voxel sizes."""

    def damage(folder: Path) -> None:
        array = np.array(nib.load(folder / IMAGE).dataobj)
        write_nifti(folder / IMAGE, array, pixdim=sizes)  # type: ignore[arg-type]

    return damage


def truncate(folder: Path) -> None:
    path = folder / IMAGE
    path.write_bytes(path.read_bytes()[:-500])


def empty_labels(folder: Path) -> None:
    for path in (folder / "labelsTr").iterdir():
        nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), AFFINE), path)


def edit(**changes: Any) -> Callable[[Path], None]:
    """Change entries of dataset.json; a function gets the old one."""

    def damage(folder: Path) -> None:
        body = json.loads((folder / "dataset.json").read_text())
        edit_task(folder, **{key: value(body[key]) if callable(value) else value for key, value in changes.items()})

    return damage


def link_to_itself(folder: Path) -> None:
    (folder / IMAGE).unlink()
    (folder / IMAGE).symlink_to("tiny_1.nii.gz")


def lock_up(folder: Path) -> None:
    """Permissions do not bind root, who is told of a file that is no file."""
    (folder / IMAGE).chmod(0)
    if os.access(folder / IMAGE, os.R_OK):
        (folder / IMAGE).unlink()
        (folder / IMAGE).mkdir()


DATA: dict[str, Kind] = {
    "truncated": Kind(truncate, rf"{IMAGE}: truncated or damaged gzip file \(.+\); fetch it again"),
    "wrong magic": Kind(
        lambda folder: (folder / IMAGE).write_bytes(b"GIF89a" * 100),
        rf"{IMAGE}: not a NIfTI file \(it starts with b'GIF8'\); give a \.nii or \.nii\.gz file",
    ),
    "NaN": Kind(
        change(IMAGE, set_voxel(np.nan, np.float32)),
        rf"{IMAGE}: 1 voxel\(s\) are NaN or infinite; replace them with a number",
    ),
    "inf": Kind(
        change(IMAGE, lambda a: np.where(a > 100, np.inf, a)),
        rf"{IMAGE}: \d+ voxel\(s\) are NaN or infinite; replace them with a number",
    ),
    "constant image": Kind(
        change(IMAGE, lambda a: np.full_like(a, 7)),
        rf"{IMAGE}: image is constant \(every voxel is 7\); .+ remove the case",
    ),
    "negative spacing": Kind(
        pixdim(2, -2, 3),
        rf"{IMAGE}: voxel size \(pixdim\) is 2 × -2 × 3 mm; each must be above 0, and a flip belongs .+",
    ),
    "zero spacing": Kind(pixdim(2, 2, 0), rf"{IMAGE}: voxel size \(pixdim\) is 2 × 2 × 0 mm; each must be above 0.+"),
    "label not integer": Kind(
        change(LABEL, set_voxel(0.5, np.float32)),
        rf"{LABEL}: label value 0\.5 is not an integer; save labels without interpolation",
    ),
    "label missing": Kind(
        lambda folder: (folder / LABEL).unlink(),
        rf"{LABEL}: file is missing; restore it, or remove the case that names it",
    ),
    "extra label": Kind(
        change(LABEL, set_voxel(7, np.uint8)),
        rf"{LABEL}: label value\(s\) 7 are not in dataset\.json, which declares 0 to 2; correct the label or .+",
    ),
    "shape mismatch": Kind(
        change(LABEL, lambda a: a[:-1]),
        rf"{LABEL}: shape \(19, 20, 20\) differs from its image's \(20, 20, 20\); draw it on the same grid",
    ),
    "affine mismatch": Kind(
        change(LABEL, np.array, AFFINE + np.eye(4, k=3) * 10),
        rf"{LABEL}: affine lies 5\.0 voxels off its image's; save it with the image's affine",
    ),
    "missing channel": Kind(
        edit(modality={"0": "T2", "1": "ADC"}),
        rf"{IMAGE}: 1 channel\(s\), but dataset\.json declares 2 \(T2, ADC\).*",
    ),
    "duplicate id": Kind(
        edit(training=lambda old: [*old, old[1]]),
        r"dataset\.json: case id 'tiny_1' is listed 2 times; every case needs an id of its own",
    ),
    "dataset.json broken": Kind(
        lambda folder: (folder / "dataset.json").write_text('{"labels": '),
        r"dataset\.json: cannot be read as JSON \(Expecting value: line 1 column 12 .+\)",
    ),
    "path that leaves the folder": Kind(
        edit(training=lambda old: [*old, {"image": "../../etc/passwd", "label": old[0]["label"]}]),
        r"dataset\.json: training\[3\]: image '\.\./\.\./etc/passwd' leads out of the task folder; give a path .+",
    ),
    "link loop": Kind(link_to_itself, rf"{IMAGE}: cannot be read \(.*symbolic links.*\); check the path .+"),
    "unreadable file": Kind(
        lock_up,
        rf"{IMAGE}: (cannot be read \(.*denied.*\); check the path .+|is no file; give a \.nii or \.nii\.gz file)",
    ),
    "one case": Kind(
        edit(training=lambda old: old[:1]),
        r"dataset\.json: 1 case\(s\) of 1 patient\(s\); a split needs two patients or more",
    ),
    "no foreground anywhere": Kind(
        empty_labels,
        r"labelsTr: no foreground in any of 3 label\(s\): every voxel is 0; check that the labels belong .+",
    ),
}


def lines(text: str, start: str) -> list[str]:
    return [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]


@pytest.mark.parametrize("kind", DATA)
def test_a_bad_case_is_named_at_both_doors(tmp_path: Path, make_task: Callable[..., Path], kind: str) -> None:
    """`bench data check` tells of it, `bench run` refuses it before anything is trained."""
    folder = make_task(tmp_path / "data", cases=3)
    damage, message = DATA[kind]
    damage(folder)
    pattern = rf"{re.escape(str(folder))}/{message}"

    done = bench("data", "check", str(tmp_path / "data"))
    told = lines(done.stdout, "problem: ")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert any(re.fullmatch(pattern, line) for line in told), told
    assert len(told) == (3 if kind == "missing channel" else 1), told

    run = bench("run", "--backbones", "none", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"))
    assert run.returncode == 2 and "Traceback" not in run.stderr and not (tmp_path / "run" / "trials").exists()
    assert lines(run.stderr, "error: ") == told


def empty_folder(tmp_path: Path, patch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "void").mkdir()
    return ["data", "check", str(tmp_path / "void")]


def from_archive(archive: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Get the task from this archive, whose checksum is the right one."""
    from monai.apps.datasets import DecathlonDataset

    patch.setitem(DecathlonDataset.md5, TASK, md5_of(archive))
    return ["data", "get", TASK, "--from", str(archive.parent), "--to", str(archive.parent / "to")]


def full_disk(tmp_path: Path, patch: pytest.MonkeyPatch) -> list[str]:
    patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2_000_000))
    return from_archive(write_tar(tmp_path / f"{TASK}.tar", [JSON]), patch)


def absolute(tmp_path: Path, patch: pytest.MonkeyPatch) -> list[str]:
    return from_archive(write_tar(tmp_path / f"{TASK}.tar", [JSON, member("/etc/cron.d/x", b"x")]), patch)


def bomb(tmp_path: Path, patch: pytest.MonkeyPatch) -> list[str]:
    return from_archive(write_bomb(tmp_path / f"{TASK}.tar", 10**9), patch)


def wrong_checksum(tmp_path: Path, patch: pytest.MonkeyPatch) -> list[str]:
    command = from_archive(write_tar(tmp_path / f"{TASK}.tar", [JSON]), patch)
    write_tar(tmp_path / f"{TASK}.tar", [JSON, member("more")])
    return command


DOORS: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], list[str]], str]] = {
    "empty folder": (empty_folder, r"no dataset\.json in \S+/void or .+, and no CSV .+; expected for instance .+json"),
    "full disk": (full_disk, r"\S+/to: needs 0 MB for archives and images, but its disk has 2 MB free; make room, .+"),
    "tar with absolute paths": (
        absolute,
        rf"\S+/{TASK}\.tar: refused, .+: '/etc/cron\.d/x' is an absolute path; get .+",
    ),
    "tar bomb": (bomb, rf"\S+/{TASK}\.tar: refused, .+ bytes claim to hold 1000000002, which is a tar bomb; get .+"),
    "wrong checksum": (
        wrong_checksum,
        rf"\S+/{TASK}\.tar: wrong checksum: MD5 is [0-9a-f]{{32}}, expected [0-9a-f]{{32}} .+; give the true archive",
    ),
}


@pytest.mark.parametrize("kind", DOORS)
def test_a_bad_folder_or_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    make, message = DOORS[kind]
    done = bench(*make(tmp_path, monkeypatch))
    (told,) = lines(done.stderr, "error: ")
    assert done.returncode == 2 and re.fullmatch(message, told), told
    assert "Traceback" not in done.stderr and not (tmp_path / "to" / TASK).exists()
    assert not any(path.name.endswith(".partial") for path in tmp_path.rglob("*"))


def test_there_are_twenty_five_kinds() -> None:
    assert len(DATA | DOORS) == 25


def test_all_of_them_at_once(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    """Ten cases of one task, each damaged in its own way, and a task beside it that cannot be opened: eleven lines."""
    folder = make_task(tmp_path, cases=12)
    kinds = ("truncated", "wrong magic", "NaN", "constant image", "zero spacing")
    kinds += ("label not integer", "label missing", "extra label", "shape mismatch", "affine mismatch")
    for number, kind in enumerate(kinds, start=2):
        apart = make_task(tmp_path / kind, cases=2)
        DATA[kind].damage(apart)
        for part in (IMAGE, LABEL):
            target = folder / part.replace("tiny_1", f"tiny_{number}")
            target.unlink()
            if (apart / part).exists():
                (apart / part).rename(target)
    (make_task(tmp_path, name="Task98_Broken", cases=1) / "dataset.json").write_text("")
    done = bench("data", "check", str(tmp_path))
    told = lines(done.stdout, "problem: ")
    assert done.returncode == 1 and len(told) == 11
    assert [line for line in told if "Task98_Broken" in line] and all(f"tiny_{n}." in str(told) for n in range(2, 12))
