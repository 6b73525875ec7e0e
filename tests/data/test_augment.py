"""Augmentation: each change does what it says, and is the same for the same seed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bench.data.augment import Turn, blur, blur_and_bend, coarse, gamma, vary


def image(seed: int = 0, shape: tuple[int, ...] = (2, 12, 14, 16)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.5, 0.8])
def test_blur_is_a_gaussian(sigma: float) -> None:
    expected = np.stack([ndimage.gaussian_filter(c, sigma, mode="nearest", radius=2) for c in image()])
    np.testing.assert_allclose(blur(image(), sigma), expected, atol=1e-5)


def test_gamma_keeps_mean_and_deviation_and_the_order_of_values() -> None:
    before, after = image(), gamma(image(), 1.4)
    for a, b in zip(before, after, strict=True):
        assert (b.mean(), b.std()) == pytest.approx((a.mean(), a.std()), abs=1e-4)
        assert np.array_equal(np.argsort(a.ravel()[:50]), np.argsort(b.ravel()[:50]))
        assert not np.allclose(a, b, atol=0.01)
    np.testing.assert_array_equal(gamma(np.full((1, 3, 3, 3), 2, np.float32), 1.4), 2)


def test_low_resolution_has_fewer_details_and_the_same_grid() -> None:
    before, after = image(), coarse(image(), 0.5)
    assert after.shape == before.shape
    assert np.abs(np.diff(after, axis=1)).mean() < 0.8 * np.abs(np.diff(before, axis=1)).mean()
    smooth = np.broadcast_to(np.arange(16, dtype=np.float32), (1, 12, 14, 16)).copy()
    assert np.abs(coarse(smooth.copy(), 0.5) - smooth).max() <= 1


def test_the_same_seed_makes_the_same_changes() -> None:
    def changed(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return vary(blur_and_bend(image(), rng), rng)

    for seed in range(20):
        np.testing.assert_array_equal(changed(seed), changed(seed))
    assert not np.array_equal(changed(0), changed(1))


def cut(array: np.ndarray, corner, size) -> np.ndarray:
    """A box of the last three axes, zeros outside."""
    padded = np.pad(array, [(0, 0)] * (array.ndim - 3) + [(40, 40)] * 3)
    return padded[(..., *(slice(c + 40, c + 40 + s) for c, s in zip(corner, size, strict=True)))]


@settings(max_examples=40)
@given(
    st.integers(0, 2),
    st.floats(-0.26, 0.26),
    st.floats(0.8, 1.25),
    st.tuples(*[st.integers(-3, 12)] * 3),
    st.tuples(*[st.floats(0.5, 3)] * 3),
)
def test_a_turned_crop_is_scipys(axis, angle, zoom, corner, spacing) -> None:
    volume, crop = image(1, (2, 20, 22, 24)), (8, 9, 10)
    label = (volume[0] > 0.5).astype(np.uint8)
    pivot = [10.0, 11.0, 9.0]
    turn = Turn(axis, angle, zoom)
    got, got_label = turn.cut(partial(cut, volume), partial(cut, label), corner, crop, pivot, spacing)
    first, second = (a for a in range(3) if a != axis)
    matrix = np.eye(3) / zoom
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    matrix[np.ix_((first, second), (first, second))] = turned
    matrix = np.diag(1 / np.array(spacing)) @ matrix @ np.diag(spacing)
    offset = np.array(pivot) + matrix @ (np.array(corner) - pivot)
    for channel, expected in zip(got, volume, strict=True):
        expected = ndimage.affine_transform(np.pad(expected, 40), matrix, offset + 40, crop, order=1)
        np.testing.assert_allclose(channel, expected, atol=1e-4)
    at = matrix @ np.indices(crop).reshape(3, -1) + (offset + 40)[:, None]
    sure = (np.abs(at - np.floor(at) - 0.5) > 1e-6).all(axis=0).reshape(crop)  # halves may round either way
    near = np.pad(label, 40)[tuple(np.floor(at + 0.5).astype(int))].reshape(crop)
    np.testing.assert_array_equal(got_label[sure], near[sure])


def test_without_angle_and_zoom_a_turn_is_a_cut() -> None:
    volume = image(1, (1, 20, 20, 20))
    label = (volume[0] > 0).astype(np.uint8)
    for axis in range(3):
        got = Turn(axis, 0, 1).cut(
            partial(cut, volume), partial(cut, label), (3, 4, 5), (6, 7, 8), (5, 5, 5), (1, 1, 2)
        )
        np.testing.assert_allclose(got[0], cut(volume, (3, 4, 5), (6, 7, 8)), atol=1e-6)
        np.testing.assert_array_equal(got[1], cut(label, (3, 4, 5), (6, 7, 8)))


def test_flat_voxels_are_turned_within_their_plane() -> None:
    rng = np.random.default_rng(0)
    assert {Turn.draw(rng, (0.8, 0.8, 5)).axis for _ in range(30)} == {2}
    assert {Turn.draw(rng, (1, 1, 2)).axis for _ in range(30)} == {0, 1, 2}
