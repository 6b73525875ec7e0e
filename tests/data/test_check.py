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
from tests.conftest import edit_task
from tests.data.nifti_files import rewrite, set_voxel

Make = Callable[..., Path]


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


def test_ids_that_end_as_channel_numbers_do(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=3)
    for path in [*folder.glob("*Tr/*.nii.gz")]:
        path.rename(path.with_name(path.name.replace("tiny_", "tiny_000")))
    (folder / "dataset.json").write_text((folder / "dataset.json").read_text().replace("tiny_", "tiny_000"))
    assert checked(tmp_path).problems == ()
    for part, text in (("imagesTr", "image without a label"), ("labelsTr", "label without an image")):
        stray = folder / part / "tiny_0009.nii.gz"
        stray.write_bytes((folder / part / "tiny_0000.nii.gz").read_bytes())
        (problem,) = checked(tmp_path).problems
        assert f"{part}/tiny_0009.nii.gz: {text}" in problem
        stray.unlink()


def test_unlisted_pairs_are_left_alone(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=3)
    edit_task(folder, training=json.loads((folder / "dataset.json").read_text())["training"][:2])
    assert checked(tmp_path).problems == ()


def test_one_case_one_patient_and_duplicates(tmp_path: Path, make_task: Make) -> None:
    make_task(tmp_path / "one", cases=1)
    assert "1 case(s) of 1 patient(s); a split needs two" in checked(tmp_path / "one").problems[0]
    make_task(tmp_path / "same", cases=2, patients={"tiny_0": "p", "tiny_1": "p"})
    assert "2 case(s) of 1 patient(s)" in checked(tmp_path / "same").problems[0]
    folder = make_task(tmp_path / "twice", cases=2)
    listed = json.loads((folder / "dataset.json").read_text())["training"]
    edit_task(folder, training=listed + listed[:1])
    assert "case id 'tiny_0' is listed 2 times" in checked(tmp_path / "twice").problems[0]


def empty(path: Path, value: int | None = None) -> None:
    """Take one label, or all, out of a label file."""
    rewrite(path, lambda a: np.where(a == value, 0, a).astype(np.uint8) if value else np.zeros_like(a))


def test_a_case_without_foreground_is_told_and_allowed(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=3)
    empty(folder / "labelsTr" / "tiny_1.nii.gz")
    found = checked(tmp_path)
    assert found.problems == ()
    (notice,) = found.notices
    assert "1 of 3 cases have no foreground (tiny_1)" in notice


def test_a_class_that_no_case_has_is_told(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=3)
    for path in (folder / "labelsTr").iterdir():
        empty(path, value=2)
    found = checked(tmp_path)
    assert found.problems == () and len(found.notices) == 1
    assert "label 2 (dot) is in none of 3 cases" in found.notices[0]


def test_no_foreground_anywhere_is_a_problem(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=3)
    for path in (folder / "labelsTr").iterdir():
        empty(path)
    found = checked(tmp_path)
    assert found.notices == () and len(found.problems) == 1
    assert "no foreground in any of 3 label(s)" in found.problems[0]


def test_the_same_image_twice_is_told(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=3)
    for part in ("imagesTr", "labelsTr"):
        (folder / part / "tiny_2.nii.gz").write_bytes((folder / part / "tiny_0.nii.gz").read_bytes())
    (notice,) = checked(tmp_path).notices
    assert re.search(r"tiny_0\.nii\.gz and \S*tiny_2\.nii\.gz are the same image", notice)


def test_a_constant_channel_is_told_a_constant_image_refused(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=2, channels=("T2", "ADC"))
    path = folder / "imagesTr" / "tiny_1.nii.gz"
    rewrite(path, lambda a: a * np.array([1, 0], a.dtype))
    found = checked(tmp_path)
    assert found.problems == () and "channel 1 of the file is constant (every voxel is 0)" in found.notices[0]
    rewrite(path, lambda a: a * 0)
    assert "image is constant (every voxel is 0)" in checked(tmp_path).problems[0]


def test_what_many_files_share_is_one_line(tmp_path: Path, make_task: Make) -> None:
    """Sheared by a little more in each case: one notice, which counts them; the cases can be used."""
    folder = make_task(tmp_path, cases=4)
    for number in range(4):
        affine = np.diag([2.0, 2, 3, 1])
        affine[0, 1] = 0.3 + 0.1 * number
        for part in ("imagesTr", "labelsTr"):
            rewrite(folder / part / f"tiny_{number}.nii.gz", np.array, affine)
    found = checked(tmp_path)
    assert found.problems == () and len(found.notices) == 1
    assert "tiny_0.nii.gz: axes are sheared by 8.5°" in found.notices[0] and "(and 7 more files)" in found.notices[0]


def test_facts_are_those_of_the_arrays(tmp_path: Path, make_task: Make) -> None:
    folder = make_task(tmp_path, cases=2, channels=("T2", "ADC"))
    entry = checked(tmp_path).cases[1]
    image = np.asarray(nib.load(folder / "imagesTr" / "tiny_1.nii.gz").dataobj)
    label = np.asarray(nib.load(folder / "labelsTr" / "tiny_1.nii.gz").dataobj)
    for channel, fact in enumerate(entry.facts.intensity):
        values = image[..., channel].astype(float)
        assert (fact.minimum, fact.maximum) == (values.min(), values.max())
        assert (fact.low, fact.median, fact.high) == tuple(np.percentile(values, (0.5, 50, 99.5)))
        assert fact.mean == pytest.approx(values.mean())
    assert entry.facts.counts == {value: int((label == value).sum()) for value in (0, 1, 2)}


@pytest.mark.parametrize("kind", ["i2", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("values", [(0, 1, 2), (-3, 0, 7), (0, 1, 100_000)], ids=str)
def test_labels_are_counted_whatever_their_type(
    tmp_path: Path, make_task: Make, kind: str, values: tuple[int, ...]
) -> None:
    if kind in ("i2", "u2") and (max(values) > 40000 or (min(values) < 0 and kind == "u2")):
        values = (0, 1, 300)
    folder = make_task(tmp_path, cases=2)
    path = folder / "labelsTr" / "tiny_1.nii.gz"
    chosen = np.random.default_rng(0).choice(values, (20, 20, 20)).astype(kind)
    nib.save(nib.Nifti1Image(chosen, nib.load(path).affine, dtype=chosen.dtype), path)
    assert checked(tmp_path).cases[1].facts.counts == {v: int((chosen == v).sum()) for v in values}


def test_progress_is_told_case_by_case(tiny_msd: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_task(open_task(tiny_msd, "Task99_Tiny"), lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]


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
