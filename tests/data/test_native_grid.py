"""Predictions go back to where they came from, whatever the orientation, the crop and the resampling."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.content import content_box
from bench.data.folder import Case, DataError, open_task
from bench.data.grid import Grid, from_ras, resample_linear, resample_nearest, to_native, to_ras
from bench.data.preparation import Preparation, fit_preparation
from bench.data.volumes import grid_of, prepare_case, prepare_image, prepared_grid

SPACING = (1.0, 2.0, 2.5)


def affine_of(axes: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(SPACING)[:, list(axes)] * signs
    affine[:3, 3] = (7, -30, 11)
    return affine


def saved(folder: Path, name: str, array: np.ndarray, affine: np.ndarray) -> Path:
    path = folder / name
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@settings(max_examples=80)
@given(
    st.sampled_from(list(permutations(range(3)))),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(4, 8))] * 3),
    st.integers(0, 99),
)
def test_a_label_in_its_box_comes_back_exactly(axes, signs, box, seed) -> None:
    shape = (8, 9, 10)
    affine = affine_of(axes, signs)
    native = np.zeros(shape, np.uint8)
    grid = grid_of(shape, affine, box, Preparation(SPACING))
    native[grid.inside] = np.random.default_rng(seed).integers(0, 3, native[grid.inside].shape)
    prepared = to_ras(native[grid.inside], affine)
    assert prepared.shape == grid.shape == grid.box_shape
    assert grid.spacing == pytest.approx(SPACING)
    one_hot = np.stack([prepared == value for value in range(3)]).astype(np.float32)
    for prediction in (prepared, one_hot, torch.from_numpy(prepared.copy()), torch.from_numpy(one_hot)):
        back = to_native(prediction, grid)
        assert back.dtype == np.uint8
        np.testing.assert_array_equal(back, native)
    assert Grid.of(json.loads(json.dumps(asdict(grid)))) == grid


def test_a_prediction_of_another_shape_is_refused() -> None:
    grid = grid_of((8, 8, 8), np.eye(4), ((0, 8),) * 3, Preparation((1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match=r"\(8, 8, 7\) does not lie on the prepared grid \(8, 8, 8\)"):
        to_native(np.zeros((8, 8, 7)), grid)


def test_content_is_what_is_not_zero_in_some_channel_and_in_ct_above_air() -> None:
    image = np.zeros((2, 10, 11, 12), np.float32)
    image[0, 2:5, 3, 4] = 1
    image[1, 4:7, 8, 2] = -1
    assert content_box(image) == ((2, 7), (3, 9), (2, 5))
    ct = np.full((1, 10, 11, 12), -1000, np.float32)
    ct[:, :, :, :2] = 0  # padding
    ct[:, 3:7, 4:9, 5:8] = 40
    assert content_box(ct, (True,)) == ((3, 7), (4, 9), (5, 8))
    nothing = np.zeros((1, 4, 5, 6), np.float32)
    assert content_box(nothing) == content_box(nothing, (True,)) == ((0, 4), (0, 5), (0, 6))


def test_an_image_is_prepared_as_the_same_labelled_case(tiny_msd: Path) -> None:
    cases = open_task(tiny_msd, "Task99_Tiny").cases
    preparation = replace(fit_preparation(cases[:4], (True,)), spacing=(3.0, 2.5, 2.0))
    prepared = prepare_case(cases[5], preparation)
    image, grid = prepare_image([cases[5].image], preparation)
    assert grid == prepared.grid
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, prepared.image())
    assert Preparation.of(json.loads(json.dumps(asdict(preparation)))) == preparation


def test_channels_in_one_file_or_in_many(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).normal(5, 1, (6, 7, 8, 2)).astype(np.float32)
    affine = affine_of((1, 0, 2), (1, -1, 1))
    one = [saved(tmp_path, "all.nii.gz", channels, affine)]
    many = [saved(tmp_path, f"{n}.nii", channels[..., n], affine) for n in range(2)]
    (first, grid), (second, other) = (prepare_image(paths, Preparation(SPACING)) for paths in (one, many))
    np.testing.assert_array_equal(first, second)
    assert grid == other
    shifted = [many[0], saved(tmp_path, "shifted.nii", channels[..., 1], affine + np.eye(4)[:, [1, 2, 3, 0]])]
    with pytest.raises(DataError, match=r"shifted.nii: affine lies .* off that of 0.nii"):
        prepare_image(shifted, Preparation(SPACING))


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.full((3, 3, 3), np.nan), "holds NaN or infinite voxels"), (np.zeros((3, 3)), r"shape .* is no volume")],
)
def test_images_that_cannot_be_prepared(tmp_path: Path, array: np.ndarray, words: str) -> None:
    path = saved(tmp_path, "bad.nii.gz", array, np.eye(4))
    with pytest.raises(DataError, match=rf"bad\.nii\.gz: {words}"):
        prepare_image([path], Preparation(SPACING))
    with pytest.raises(DataError, match="no image file given"):
        prepare_image([], Preparation(SPACING))


def test_slices_far_apart_are_never_mixed() -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    image = np.random.default_rng(0).normal(size=(1, 12, 12, 6)).astype(np.float32)
    apart = prepared_grid(image, affine, Preparation((1.5, 1.5, 4.0)))
    assert apart.apart == 2
    assert prepared_grid(image, affine, Preparation((1.5, 1.5, 4.0), anisotropy=0)).apart is None
    slices = resample_linear(image[0], apart.shape, apart.apart)
    number = resample_nearest(np.broadcast_to(np.arange(6.0), (12, 12, 6)), apart.shape)[0, 0]
    for z in range(apart.shape[2]):
        plane = resample_linear(image[0, :, :, int(number[z]), None], (*apart.shape[:2], 1))[..., 0]
        np.testing.assert_allclose(slices[..., z], plane, atol=1e-6)


@pytest.mark.parametrize(
    ("native", "target", "axis"),
    [
        ((1, 1, 3), (1, 1, 3), None),
        ((1, 1, 3.1), (1, 1, 1), 2),
        ((4, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 5, 1), 1),
        ((0.3, 1.2, 1.2), (1, 1, 1), None),
    ],
)
def test_which_axis_is_treated_apart(native: tuple, target: tuple, axis: int | None) -> None:
    assert Preparation(target).axis_apart(np.array(native)) == axis
    assert Preparation(target, anisotropy=0).axis_apart(np.array(native)) is None


def test_the_thick_axis_takes_its_tenth_percentile(tmp_path: Path) -> None:
    cases = []
    for number, thickness in enumerate((4.0, 5.0, 6.0, 7.0, 8.0)):
        affine = np.diag([1.0, 1.0, thickness, 1.0])
        image = saved(tmp_path, f"i{number}.nii.gz", np.ones((40, 40, 6), np.float32), affine)
        label = saved(tmp_path, f"l{number}.nii.gz", np.ones((40, 40, 6), np.uint8), affine)
        cases.append(Case(str(number), (image,), label, str(number)))
    assert fit_preparation(cases, (False,)).spacing == pytest.approx((1, 1, np.percentile([4, 5, 6, 7, 8], 10)))
    assert fit_preparation(cases, (False,), anisotropy=0).spacing == pytest.approx((1, 1, 6))


def test_a_window_takes_the_place_of_percentiles(tiny_msd: Path) -> None:
    cases = open_task(tiny_msd, "Task99_Tiny").cases
    preparation = fit_preparation(cases[:2], (True,), window=(-160, 240))
    assert preparation.scales == ((-160, 240, 40, 200),)
    image, _ = prepare_image([cases[0].image], preparation)
    assert -1 <= image.min() < image.max() <= 1
    assert fit_preparation(cases[:2], (False,), window=(-160, 240)).scales == ()


def test_the_content_alone_decides_how_much_is_coarsened(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    """Air round a body costs no resolution: padding every image leaves the spacing as it was."""
    folder = make_task(tmp_path, cases=2)
    before = fit_preparation(open_task(tmp_path, "Task99_Tiny").cases, (False,), 1000).spacing
    for part in ("imagesTr", "labelsTr"):
        for path in (folder / part).glob("*.nii.gz"):
            image = nib.load(path)
            padded = np.pad(np.asarray(image.dataobj), 10)
            nib.save(nib.Nifti1Image(padded, image.affine), path)
    cases = open_task(tmp_path, "Task99_Tiny").cases
    assert fit_preparation(cases, (False,), 1000).spacing == pytest.approx(before)
    prepared = prepare_case(cases[0], fit_preparation(cases, (False,)))
    assert prepared.grid.native_shape == (40, 40, 40)
    assert prepared.shape == (20, 20, 20)
    back = to_native(prepared.label(), prepared.grid)
    np.testing.assert_array_equal(back, np.asarray(nib.load(cases[0].label).dataobj))
    np.testing.assert_array_equal(
        from_ras(prepared.label(), np.array(prepared.grid.affine)), back[prepared.grid.inside]
    )
