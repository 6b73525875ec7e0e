"""Preprocessing: there and back, whatever the orientation; settings from the training cases; stored once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bench.data.content import case_content
from bench.data.folder import Case, DataError, open_task, read_case, read_label
from bench.data.grid import from_ras, resample_linear, resample_nearest, to_ras
from bench.data.phantom import draw_case
from bench.data.preparation import Preparation, coarsen, ct_channels, fit_preparation
from bench.data.tasks import DECATHLON, TaskSpec
from bench.data.volumes import PreparedCase, prepare_case, prepared_folder, to_native

shapes = st.tuples(*[st.integers(1, 9)] * 3)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def one_hot(prepared: PreparedCase, classes: int) -> np.ndarray:
    return np.stack([np.asarray(prepared.label()) == k for k in range(classes)]).astype(np.float32)


def native_case(tmp_path: Path, affine: np.ndarray, shape: tuple[int, int, int] = (7, 9, 11)) -> Case:
    rng = np.random.default_rng(0)
    for part, array in (("i", rng.normal(size=shape)), ("l", rng.integers(0, 3, shape).astype(np.uint8))):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{part}.nii.gz")
    return Case("a", (tmp_path / "i.nii.gz",), tmp_path / "l.nii.gz", "a")


@settings(max_examples=60, deadline=None)
@given(shapes, shapes, st.integers(0, 99))
def test_linear_resampling_equals_scipy(old: tuple[int, ...], new: tuple[int, ...], seed: int) -> None:
    array = np.random.default_rng(seed).normal(size=old).astype(np.float32)
    zoom = [n / o for n, o in zip(new, old, strict=True)]
    expected = ndimage.zoom(array, zoom, order=1, mode="nearest", grid_mode=True)
    assert expected.shape == new
    np.testing.assert_allclose(resample_linear(array, new), expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(1, 4), st.integers(0, 99))
def test_nearest_resampling_there_and_back_is_exact_when_refined(shape: tuple[int, ...], times: int, seed: int) -> None:
    label = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)
    fine = resample_nearest(label, [times * n for n in shape])
    label_repeated = label.repeat(times, 0).repeat(times, 1).repeat(times, 2)
    np.testing.assert_array_equal(fine, label_repeated)
    np.testing.assert_array_equal(resample_nearest(fine, shape), label)


@settings(max_examples=40, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.floats(-0.3, 0.3), st.booleans())
def test_orientation_there_and_back(axes: list[int], signs: tuple[int, ...], tilt: float, channels: bool) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.diag([1.0, 2.0, 3.0])[:, axes] * signs
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ affine[:3, :3]
    array = np.arange(120 * (2 if channels else 1)).reshape((2, 4, 5, 6) if channels else (4, 5, 6))
    turned = to_ras(array, affine)
    np.testing.assert_array_equal(from_ras(turned, affine), array)
    reference = nib.as_closest_canonical(nib.Nifti1Image((array[0] if channels else array).astype(np.int16), affine))
    np.testing.assert_array_equal(turned[0] if channels else turned, np.asarray(reference.dataobj))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_preparation_at_native_spacing_round_trips_exactly(tmp_path: Path, codes: str) -> None:
    ras = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.diag([1.0, 2.0, 4.0, 1]))
    affine = ras.as_reoriented(nib.orientations.axcodes2ornt(codes)).affine
    case = native_case(tmp_path, affine)
    prepared = prepare_case(case, Preparation((1.0, 2.0, 4.0)))
    np.testing.assert_array_equal(to_native(prepared.label(), prepared.grid), read_label(case))
    np.testing.assert_array_equal(to_native(one_hot(prepared, 3), prepared.grid), read_label(case))
    image = read_case(case).image[0]
    expected = to_ras((image - image.mean()) / image.std(), affine)
    np.testing.assert_allclose(prepared.image()[0], expected, atol=1e-5)


def test_oblique_and_sheared_affines_round_trip(tmp_path: Path) -> None:
    affine = np.array([[-1.4, 0.3, 0.1, 9], [0.2, 1.5, -0.4, -3], [0.1, 0.5, 2.4, 7], [0, 0, 0, 1]])
    case = native_case(tmp_path, affine)
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    prepared = prepare_case(case, Preparation(spacing))  # type: ignore[arg-type]
    np.testing.assert_array_equal(to_native(prepared.label(), prepared.grid), read_label(case))


def finer_case(task: TaskSpec, folder: Path, times: int = 4) -> Case:
    """The label of a phantom case drawn `times` as fine along each axis, without what lies far from its foreground.

    Structures are then as many voxels wide as in real images; those of a few voxels, as the phantom has, lose more.
    """
    drawn = draw_case(task, 0)[1]
    label = np.asarray(drawn.dataobj)
    low, high = (bound(np.argwhere(label), axis=0) for bound in (np.min, np.max))
    label = label[tuple(slice(max(0, a - 1), b + 2) for a, b in zip(low, high, strict=True))]
    for axis in range(3):
        label = label.repeat(times, axis)
    affine = drawn.affine @ np.diag([1 / times] * 3 + [1])
    for name, array in (("i", label.astype(np.int16) + 1), ("l", label)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii")
    return Case("a", (folder / "i.nii",), folder / "l.nii", "a")


@pytest.mark.parametrize("task", DECATHLON, ids=lambda task: task.name)
def test_every_class_of_every_phantom_task_there_and_back(tmp_path: Path, task: TaskSpec) -> None:
    case = finer_case(task, tmp_path)
    reference, classes = read_label(case), len(task.labels) + 1
    native = fit_preparation([case], (False,))
    for factor in (0.8, 1.2):
        x, y, z = (factor * size for size in native.spacing)
        prepared = prepare_case(case, replace(native, spacing=(x, y, z)), tmp_path)
        back = to_native(one_hot(prepared, classes), prepared.grid)
        assert back.shape == reference.shape and back.dtype == np.uint8
        scores = {k: dice(back == k, reference == k) for k in range(1, classes)}
        assert min(scores.values()) > 0.95, (factor, scores)


def test_ct_is_scaled_by_the_training_foreground(tiny_msd: Path) -> None:
    folder = open_task(tiny_msd, "Task99_Tiny")
    train = folder.cases[:4]
    preparation = fit_preparation(train, (True,))
    voxels = np.concatenate([v.image[0][v.label > 0] for v in map(read_case, train)])
    low, high = np.percentile(voxels, [0.5, 99.5])
    (scale,) = preparation.scales
    assert (scale.low, scale.high) == pytest.approx((low, high))
    assert scale.mean == pytest.approx(np.clip(voxels, low, high).mean(), rel=1e-5)
    assert preparation.spacing == (2.0, 2.0, 3.0)
    prepared = prepare_case(folder.cases[5], preparation)
    expected = (np.clip(read_case(folder.cases[5]).image, low, high) - scale.mean) / scale.deviation
    np.testing.assert_allclose(prepared.image(), expected, atol=1e-4)


def test_a_ct_beside_a_pet_keeps_its_scale_and_the_pet_is_standardised_by_itself(
    tmp_path: Path, make_task: Callable[..., Path]
) -> None:
    root = make_task(tmp_path, channels=("PET", "CT"), spacing=(2.0, 2.0, 2.0)).parent
    folder = open_task(root, "Task99_Tiny")
    ct = ct_channels(folder.spec.modality, folder.spec.channels)
    assert ct == (False, True)
    preparation = fit_preparation(folder.cases[:4], ct)
    voxels = np.concatenate([v.image[1][v.label > 0] for v in map(read_case, folder.cases[:4])])
    assert preparation.scales[0] is None
    assert preparation.scales[1][:2] == pytest.approx(np.percentile(voxels, [0.5, 99.5]))
    pet, scan = np.array(prepare_case(folder.cases[5], preparation).image())
    native = read_case(folder.cases[5]).image
    scale = preparation.scales[1]
    np.testing.assert_allclose(scan, (native[1].clip(scale.low, scale.high) - scale.mean) / scale.deviation, atol=1e-4)
    inside = native[0] != 0
    np.testing.assert_allclose(pet, (native[0] - native[0][inside].mean()) / native[0][inside].std(), atol=1e-4)
    assert Preparation.of(json.loads(json.dumps(asdict(preparation)))) == preparation


@pytest.mark.parametrize(
    "modality, channels, ct",
    [
        ("CT", ("portal venous",), (True,)),
        ("MRI", ("T1", "T2"), (False, False)),
        ("PET+CT", ("PET", "CT"), (False, True)),
        ("mixed", ("low-dose CT", "spect", "ct_attenuation", "octopus"), (True, False, True, False)),
    ],
)
def test_ct_is_known_by_the_modality_or_by_a_word_of_the_channel(
    modality: str, channels: tuple[str, ...], ct: tuple[bool, ...]
) -> None:
    assert ct_channels(modality, channels) == ct


def test_a_preparation_of_another_version_is_refused() -> None:
    body = json.loads(json.dumps(asdict(Preparation((1.0, 1.0, 1.0))))) | {"version": 1}
    with pytest.raises(DataError, match="version 1, and this project makes"):
        Preparation.of(body)


def test_the_sample_of_the_foreground_is_of_all_of_it(tmp_path: Path) -> None:
    image = np.zeros((20, 33, 30), np.float32)
    image[10:] = 200
    for name, array in (("i", image), ("l", np.ones(image.shape, np.uint8))):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    values = case_content(Case("a", (tmp_path / "i.nii.gz",), tmp_path / "l.nii.gz", "a"), ()).values_CN
    assert values.mean() == pytest.approx(100, abs=1) and 5000 < values.size <= 10_000


def test_what_is_stored_is_addressed_by_how_it_was_measured(
    tiny_msd: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    cases = open_task(tiny_msd, "Task99_Tiny").cases
    before = prepared_folder(cases[0], fit_preparation(cases, (True,)))
    for module in ("content", "preparation", "volumes"):
        monkeypatch.setattr(f"bench.data.{module}.CONTENT_VERSION", 99)
    assert prepared_folder(cases[0], fit_preparation(cases, (True,))) != before
    assert len(list((cache / "preparations").glob("*.json"))) == 2


def test_nothing_is_learnt_from_held_out_cases(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    folder = make_task(tmp_path, cases=4)
    train = open_task(tmp_path, "Task99_Tiny").cases[:3]
    before = fit_preparation(train, (True,), 1000)
    path = folder / "imagesTr" / "tiny_3.nii.gz"
    nib.save(nib.Nifti1Image(np.full((20, 20, 20), 3000, np.int16), np.diag([9.0, 9, 9, 1])), path)
    assert fit_preparation(train, (True,), 1000) == before
    path = folder / "imagesTr" / "tiny_0.nii.gz"
    nib.save(nib.Nifti1Image(np.full((20, 20, 20), 3000, np.int16), np.diag([2.0, 2, 3, 1])), path)
    assert fit_preparation(train, (True,), 1000) != before


def test_mri_zero_background_does_not_count(tmp_path: Path) -> None:
    case = native_case(tmp_path, np.eye(4))
    image = np.zeros((7, 9, 11), np.float32)
    image[2:5, 2:5, 2:5] = np.arange(27).reshape(3, 3, 3) + 100
    nib.save(nib.Nifti1Image(image, np.eye(4)), case.image)
    inside = np.array(prepare_case(case, Preparation((1.0, 1.0, 1.0))).image())[0]
    assert inside.shape == (3, 3, 3)  # the rest is no content
    assert abs(inside.mean()) < 1e-5
    assert inside.std() == pytest.approx(1, abs=1e-5)


def test_constant_image_stays_finite(tmp_path: Path) -> None:
    case = native_case(tmp_path, np.eye(4))
    nib.save(nib.Nifti1Image(np.full((7, 9, 11), 5, np.float32), np.eye(4)), case.image)
    assert np.all(prepare_case(case, Preparation((1.0, 1.0, 1.0))).image() == 0)


def test_no_foreground_in_training_is_an_error(tmp_path: Path) -> None:
    case = native_case(tmp_path, np.eye(4))
    nib.save(nib.Nifti1Image(np.zeros((7, 9, 11), np.uint8), np.eye(4)), case.label)
    with pytest.raises(ValueError, match="no training case has any foreground"):
        fit_preparation([case], (True,))


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(0.3, 6)] * 3), st.tuples(*[st.floats(50, 500)] * 3), st.integers(1000, 10**7))
def test_coarsening_meets_its_bound_and_takes_the_finest_axes(
    spacing: tuple[float, ...], extent: tuple[float, ...], bound: int
) -> None:
    start = np.array(spacing)
    after = coarsen(start, np.array(extent), bound)
    assert np.prod(np.array(extent) / after) <= bound * (1 + 1e-6)
    assert np.all(after >= start - 1e-9)
    grown = after > start * (1 + 1e-9)
    if grown.any():
        assert np.prod(np.array(extent) / after) >= bound * (1 - 1e-6)
        np.testing.assert_allclose(after[grown], after.min(), rtol=1e-4)


def test_prepared_once_and_addressed_by_content_and_settings(
    tiny_msd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = open_task(tiny_msd, "Task99_Tiny").cases[0]
    first = prepare_case(case, Preparation((2.0, 2.0, 3.0)), tmp_path)
    other = prepare_case(case, Preparation((2.0, 2.0, 3.5)), tmp_path)
    assert first.image_path != other.image_path
    assert first.image_path.is_relative_to(tmp_path / "prepared")
    monkeypatch.setattr("bench.data.volumes.read_case", lambda case: pytest.fail("was prepared already"))
    assert prepare_case(case, Preparation((2.0, 2.0, 3.0)), tmp_path) == first
    assert isinstance(first.image(), np.memmap)
    assert not first.image().flags.writeable


def test_an_interrupted_writer_leaves_nothing(tiny_msd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = open_task(tiny_msd, "Task99_Tiny").cases[0]
    monkeypatch.setattr("bench.data.volumes._positions", lambda label: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare_case(case, Preparation((2.0, 2.0, 3.0)), tmp_path)
    monkeypatch.undo()
    assert [path for path in (tmp_path / "prepared").iterdir() if path.name != ".locks"] == []
    assert prepare_case(case, Preparation((2.0, 2.0, 3.0)), tmp_path).image().shape == (1, 20, 20, 20)
