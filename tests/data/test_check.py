"""The check: every kind of bad input has its line, and the digest follows the content."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.check import TaskCheck, check_task
from bench.data.folder import open_task

Make = Callable[..., Path]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    array = change(np.array(image.dataobj))
    nib.save(nib.Nifti1Image(array, image.affine if affine is None else affine), path)


def set_voxel(value: float, kind: type) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(kind)
        array[0, 0, 0] = value
        return array

    return change


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unzipped_and_cut(path: Path) -> None:
    image = nib.load(path)
    path.write_bytes(nib.Nifti1Image(np.asarray(image.dataobj), image.affine).to_bytes()[:-50])


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


AFFINE_OFF = np.array([[2, 0, 0, 5], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "label missing": ("labelsTr", Path.unlink, "labelsTr/tiny_1.nii.gz: file is missing"),
    "image missing": ("imagesTr", Path.unlink, "imagesTr/tiny_1.nii.gz: file is missing"),
    "shape": ("labelsTr", lambda p: rewrite(p, lambda a: a[:-1]), r"shape \(19, 20, 20\) differs from its image's"),
    "channels": (
        "imagesTr",
        lambda p: rewrite(p, lambda a: np.stack([a, a], -1)),
        r"2 channel\(s\), but .* declares 1",
    ),
    "extra label": ("labelsTr", lambda p: rewrite(p, set_voxel(7, np.uint8)), r"value\(s\) 7 are not in dataset.json"),
    "negative label": ("labelsTr", lambda p: rewrite(p, set_voxel(-1, np.int16)), r"value\(s\) -1 are not in dataset"),
    "half a label": ("labelsTr", lambda p: rewrite(p, set_voxel(0.5, np.float32)), "label value 0.5 is not an integer"),
    "truncated": ("imagesTr", truncate, r"imagesTr/tiny_1.nii.gz: truncated or damaged gzip"),
    "truncated label": ("labelsTr", truncate, r"labelsTr/tiny_1.nii.gz: truncated or damaged gzip"),
    "truncated nii": ("imagesTr", unzipped_and_cut, "truncated or damaged NIfTI"),
    "wrong magic": ("imagesTr", lambda p: p.write_bytes(b"GIF89a" * 100), "not a NIfTI file"),
    "empty file": ("imagesTr", lambda p: p.write_bytes(b""), "not a NIfTI file"),
    "NaN": ("imagesTr", lambda p: rewrite(p, set_voxel(np.nan, np.float32)), r"1 voxel\(s\) are NaN or infinite"),
    "infinite": ("imagesTr", lambda p: rewrite(p, set_voxel(np.inf, np.float32)), r"1 voxel\(s\) are NaN or infinite"),
    "affine": ("labelsTr", lambda p: rewrite(p, np.array, AFFINE_OFF), "affine lies 2.5 voxels off its image's"),
    "link loop": ("imagesTr", loop, "cannot be read"),
}


def checked(root: Path) -> TaskCheck:
    return check_task(open_task(root, "Task99_Tiny"))


def test_a_good_task(tiny_msd: Path) -> None:
    found = checked(tiny_msd)
    assert found.problems == ()
    assert len(found.digest) == 64
    assert found.shapes["tiny_3"] == (20, 20, 20)
    assert found.spacings["tiny_3"] == (2.0, 2.0, 3.0)
    assert found.voxels == 6 * 8000
    assert checked(tiny_msd) == found


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, make_task: Make, kind: str) -> None:
    part, damage, text = DAMAGE[kind]
    folder = make_task(tmp_path, cases=3)
    assert checked(tmp_path).problems == ()
    damage(folder / part / "tiny_1.nii.gz")
    for _ in range(2):  # measured, then recalled
        problems = checked(tmp_path).problems
        assert len(problems) == 1
        assert "\n" not in problems[0]
        assert "tiny_1" in problems[0]
        assert re.search(text, problems[0])


def test_all_problems_at_once(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=4)
    truncate(folder / "imagesTr" / "tiny_0.nii.gz")
    rewrite(folder / "labelsTr" / "tiny_1.nii.gz", set_voxel(9, np.uint8))
    (folder / "labelsTr" / "tiny_2.nii.gz").unlink()
    assert len(checked(tmp_path).problems) == 3


@pytest.mark.parametrize(
    ("part", "text"), [("imagesTr", "image without a label"), ("labelsTr", "label without an image")]
)
def test_files_without_a_partner(tmp_path: Path, make_task: Make, part: str, text: str) -> None:
    folder = make_task(tmp_path, cases=2)
    (folder / part / "stray.nii.gz").write_bytes((folder / part / "tiny_0.nii.gz").read_bytes())
    (folder / part / "._tiny_0.nii.gz").write_bytes(b"hidden leftovers are no images")
    (problem,) = checked(tmp_path).problems
    assert f"{part}/stray.nii.gz: {text}" in problem


def test_unlisted_pairs_are_left_alone(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=3)
    body = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(body | {"training": body["training"][:2]}))
    assert checked(tmp_path).problems == ()


def test_one_case_one_patient_and_duplicates(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path / "one", cases=1)
    assert "1 case(s) of 1 patient(s); a split needs two" in checked(tmp_path / "one").problems[0]
    make_task(tmp_path / "same", cases=2, patients={"tiny_0": "p", "tiny_1": "p"})
    assert "2 case(s) of 1 patient(s)" in checked(tmp_path / "same").problems[0]
    folder = make_task(tmp_path / "twice", cases=2)
    body = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(body | {"training": body["training"] + body["training"][:1]}))
    assert "case id 'tiny_0' is listed 2 times" in checked(tmp_path / "twice").problems[0]


def test_digest_follows_the_voxels(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=2)
    digests = {checked(tmp_path).digest}
    rewrite(folder / "imagesTr" / "tiny_0.nii.gz", set_voxel(1234, np.int16))
    digests.add(checked(tmp_path).digest)
    rewrite(folder / "labelsTr" / "tiny_1.nii.gz", set_voxel(2, np.uint8))
    digests.add(checked(tmp_path).digest)
    assert len(digests) == 3


def test_digest_is_of_the_content_not_of_place_or_compression(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path / "a", cases=2)
    other = make_task(tmp_path / "b", cases=2)
    path = other / "imagesTr" / "tiny_0.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    assert checked(tmp_path / "a").digest == checked(tmp_path / "b").digest


def test_second_check_opens_no_image(tmp_path: Path, make_task: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make_task(tmp_path, cases=2)
    first = checked(tmp_path)
    monkeypatch.setattr("bench.data.measure.read_nifti", lambda path: pytest.fail(f"{path} was read again"))
    assert checked(tmp_path) == first
