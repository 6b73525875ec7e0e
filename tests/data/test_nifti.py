"""Reading NIfTI: the array and the affine are those of the file, whatever form it has; oddities are told."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.check import check_task
from bench.data.folder import Case, open_task, read_case
from bench.data.geometry import shear_of, spacing_of
from bench.data.grid import from_ras, to_ras
from bench.data.nifti import DataError, read_nifti
from tests.data.nifti_files import affine_of, rotation, write_nifti

TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8")
ANGLE = st.floats(-3.1, 3.1)
SPACING = st.tuples(*[st.floats(0.2, 8.0)] * 3)
ORIGIN = st.tuples(*[st.floats(-300, 300)] * 3)
FLIPS = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
SHAPE = st.tuples(*[st.integers(1, 6)] * 3)
PLAIN = np.diag([2.0, 2.0, 3.0, 1.0])


@st.composite
def affines(draw: st.DrawFn, shear: float = 0.6) -> np.ndarray:
    """Oblique, flipped and sheared, up to a tangent of `shear`."""
    axes = rotation(draw(ANGLE), draw(ANGLE), draw(ANGLE)) @ np.diag(draw(FLIPS))
    return affine_of(axes, draw(SPACING), draw(ORIGIN), draw(st.floats(-shear, shear)) if shear else 0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nifti")


def values(shape: tuple[int, ...], kind: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(kind)


@given(
    affine=affines(),
    shape=SHAPE,
    channels=st.sampled_from([(), (2,), (4,)]),
    kind=st.sampled_from(TYPES),
    order=st.sampled_from("<>"),
    version=st.sampled_from([1, 2]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    scale=st.sampled_from([None, (1.0, 0.0), (0.5, -3.0), (-2.0, 100.0)]),
)
def test_array_and_affine_are_those_of_the_file(place, affine, shape, channels, kind, order, version, suffix, scale):
    stored = values((*shape, *channels), kind)
    path = write_nifti(place / f"a{suffix}", stored, affine, order=order, version=version, scale=scale)
    found = read_nifti(path)
    slope, intercept = scale or (1.0, 0.0)
    np.testing.assert_array_equal(found.array, stored * slope + intercept)
    assert found.array.dtype.isnative and (scale not in (None, (1.0, 0.0)) or found.array.dtype == stored.dtype)
    np.testing.assert_allclose(found.affine, affine, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(found.affine, nib.load(path).affine)
    assert found.faults == ()


@given(affine=affines(shear=0.0), shape=SHAPE)
def test_a_qform_alone_is_enough(place, affine, shape):
    found = read_nifti(write_nifti(place / "q.nii", values(shape, "i2"), qform=affine))
    np.testing.assert_allclose(found.affine, affine, rtol=1e-3, atol=2e-3 * np.abs(affine).max())
    assert found.faults == () and found.notices == ()


@given(affine=affines(shear=0.0))
def test_the_sform_counts_before_the_qform(place, affine):
    found = read_nifti(write_nifti(place / "both.nii", values((3, 3, 3), "i2"), sform=PLAIN, qform=affine))
    np.testing.assert_array_equal(found.affine, PLAIN)


@given(
    axes=st.tuples(ANGLE, ANGLE, ANGLE),
    spacing=SPACING,
    degrees=st.one_of(st.floats(0, 0.4), st.floats(0.7, 30.0)),
)
def test_shear_is_told_and_not_refused(place, axes, spacing, degrees):
    """The second axis leans by so many degrees: its distance from a right angle to the first."""
    affine = affine_of(rotation(*axes), spacing, shear=np.tan(np.radians(degrees)))
    assert shear_of(affine) == pytest.approx(degrees, abs=1e-3)
    found = read_nifti(write_nifti(place / "s.nii", values((2, 3, 4), "i2"), affine))
    told = [notice for notice in found.notices if "sheared" in notice]
    assert bool(told) == (degrees > 0.5) and found.faults == ()
    if told:
        assert f"{degrees:.1f}°" in told[0] or abs(degrees * 10 % 1 - 0.5) < 0.01
    np.testing.assert_allclose(spacing_of(found.affine)[0], spacing[0], rtol=1e-5)


@given(affine=affines(), shape=SHAPE)
def test_any_of_them_goes_to_ras_and_back(place, affine, shape):
    """What is done with a file afterwards: turned, predicted on, turned back, voxel for voxel."""
    found = read_nifti(write_nifti(place / "r.nii", values(shape, "u1"), affine))
    np.testing.assert_array_equal(from_ras(to_ras(found.array, found.affine), found.affine), found.array)


@given(shape=SHAPE, kind=st.sampled_from(["u1", "i2", "i4", "f4", "f8"]), order=st.sampled_from("<>"))
def test_labels_of_any_type_that_hold_integers(place, shape, kind, order):
    stored = values(shape, kind) % 3
    image = write_nifti(place / "image.nii.gz", values(shape, "f4", 1), PLAIN, order=order)
    label = write_nifti(place / "label.nii.gz", stored, PLAIN, order=order)
    volume = read_case(Case("a", (image,), label, "a"))
    assert volume.label.dtype == np.uint8 and volume.image.dtype == np.float32 and volume.image.shape == (1, *shape)
    np.testing.assert_array_equal(volume.label, stored)


def test_labels_with_a_scale_factor_are_counted(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    folder = make_task(tmp_path, cases=2)
    path = folder / "labelsTr" / "tiny_0.nii.gz"
    stored = np.asarray(nib.load(path).dataobj)
    write_nifti(path, stored * 2, PLAIN, scale=(0.5, 0.0))
    first, second = check_task(open_task(tmp_path, "Task99_Tiny")).cases
    assert first.problems == () and first.facts.counts == {v: int((stored == v).sum()) for v in (0, 1, 2)}
    assert set(second.facts.counts) == {0, 1, 2}


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((4, 5, 6, 1), (4, 5, 6)), ((4, 5, 6, 1, 3), (4, 5, 6, 3)), ((4, 5, 6, 1, 1), (4, 5, 6)), ((4, 5, 1), (4, 5, 1))],
)
def test_axes_of_length_one_are_no_channels(place: Path, shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    stored = values(shape, "i2")
    found = read_nifti(write_nifti(place / "ones.nii", stored, PLAIN))
    assert found.array.shape == seen
    np.testing.assert_array_equal(found.array.ravel(), stored.ravel())


def test_the_digest_is_of_the_content(place: Path) -> None:
    stored = values((4, 5, 6), "i2")
    plain = write_nifti(place / "d.nii", stored, PLAIN)
    zipped = write_nifti(place / "d.nii.gz", stored, PLAIN)
    assert read_nifti(plain).digest == read_nifti(zipped).digest
    assert read_nifti(write_nifti(plain, stored + 1, PLAIN)).digest != read_nifti(zipped).digest


@pytest.mark.parametrize(
    ("given_", "fault"),
    [
        ({"qform": PLAIN, "pixdim": (0, 2, 3)}, r"voxel size \(pixdim\) is 0 × 2 × 3 mm; each must be above 0"),
        ({"qform": PLAIN, "pixdim": (2, -2, 3)}, r"voxel size \(pixdim\) is 2 × -2 × 3 mm; each must be above 0"),
        ({"pixdim": (2, 2, float("nan"))}, r"voxel size \(pixdim\) is 2 × 2 × nan mm"),
        ({"sform": np.diag([2.0, 0, 3, 1])}, r"affine has no volume \(voxel size 2 × 0 × 3 mm\)"),
        ({"sform": affine_of(np.array([[1.0, 1, 0], [0, 0, 1], [0, 0, 0]]), (1, 1, 1))}, "affine has no volume"),
        ({"sform": np.diag([2.0, np.nan, 3, 1])}, "affine holds NaN or infinity"),
    ],
    ids=["zero", "negative", "not a number", "flat", "parallel", "NaN in the sform"],
)
def test_a_geometry_that_is_none(place: Path, given_: dict[str, object], fault: str) -> None:
    path = write_nifti(place / "bad.nii", values((3, 3, 3), "i2"), **given_)
    with pytest.raises(DataError, match=rf"bad\.nii: {fault}"):
        read_nifti(path)
    assert read_nifti(path, strict=False).faults


@pytest.mark.parametrize(
    ("given_", "notice"),
    [
        ({"sform": PLAIN, "pixdim": (0, 2, 3)}, r"pixdim\) is 0 × 2 × 3 mm; the sform is used"),
        ({"sform": PLAIN, "pixdim": (1, 1, 1)}, r"2 × 2 × 3 mm by the sform and 1 × 1 × 1 mm by pixdim"),
        ({"pixdim": (2, 2, 3)}, "neither sform nor qform"),
    ],
)
def test_what_is_odd_and_can_be_used(place: Path, given_: dict[str, object], notice: str) -> None:
    found = read_nifti(write_nifti(place / "odd.nii", values((3, 3, 3), "i2"), **given_))
    assert found.faults == () and len(found.notices) == 1
    assert spacing_of(found.affine) == (2.0, 2.0, 3.0)
    assert re.search(notice, found.notices[0])


def test_a_file_that_may_not_be_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = write_nifti(place / "locked.nii", values((3, 3, 3), "i2"), PLAIN)
    monkeypatch.setattr(Path, "read_bytes", refuse)  # permissions do not bind root
    with pytest.raises(DataError, match=r"locked\.nii: cannot be read \(.*Permission denied.*check the path and its"):
        read_nifti(path)


def colours(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), PLAIN), path)


def patched(start: int, data: bytes) -> Callable[[Path], None]:
    """A good file with these bytes written over it."""

    def write(path: Path) -> None:
        write_nifti(path, values((3, 3, 3), "i2"), PLAIN)
        content = bytearray(path.read_bytes())
        content[start : start + len(data)] = data
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (colours, "holds colours; save real numbers"),
        (lambda p: write_nifti(p, np.ones((2, 2, 2), "c8"), PLAIN), "holds values of type complex64"),
        (patched(344, b"ni1\0"), r"a \.hdr and \.img pair; convert"),
        (patched(344, b"\0\0\0\0"), r"not a NIfTI file \(its magic is b''"),
        (patched(40, (9).to_bytes(2, "little")), "damaged NIfTI header|truncated or damaged|holds no voxel"),
        (patched(42, (0).to_bytes(2, "little")), r"shape \(0, 3, 3\) holds no voxel"),
        (patched(42, (30000).to_bytes(2, "little")), r"truncated or damaged NIfTI file \(406 of 540352 bytes\)"),
        (patched(70, (99).to_bytes(2, "little")), "damaged NIfTI header"),
        (lambda p: p.write_bytes((348).to_bytes(4, "little")), r"truncated or damaged NIfTI file \(4 bytes in all\)"),
        (lambda p: p.write_bytes(gzip.compress(b"")), "not a NIfTI file"),
        (Path.mkdir, "is no file"),
        (lambda p: os.mkfifo(p), "is no file"),
        (lambda p: None, "file is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_cannot_be_read(tmp_path: Path, write: Callable[[Path], object], text: str) -> None:
    path = tmp_path / "x.nii"
    write(path)
    with pytest.raises(DataError, match=rf"x\.nii: .*({text})") as raised:
        read_nifti(path)
    assert "\n" not in str(raised.value) and ";" in str(raised.value)
