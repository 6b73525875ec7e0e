"""Sliding windows: where they lie, that they blend as MONAI's do, and how much memory they take."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.windows import gaussian, slabs, starts

SIDES = st.tuples(*[st.integers(1, 30)] * 3)
WINDOWS = st.tuples(*[st.integers(3, 12)] * 3)


def whole(*given) -> torch.Tensor:
    """(K, X, Y, Z), from slabs that are overwritten as the next one comes."""
    return torch.cat([slab.clone() for slab in slabs(*given)], 1)


@given(st.integers(1, 200), st.integers(1, 60), st.floats(0, 0.99))
def test_windows_cover_every_voxel_and_stay_inside(side, width, overlap):
    side = max(side, width)
    found = starts(side, width, overlap)
    assert found[0] == 0 and found[-1] == side - width and found == sorted(set(found))
    assert all(b - a <= width for a, b in itertools.pairwise(found))


@pytest.fixture(scope="module")
def network():
    """Softmax of a convolution: what it says of a voxel depends on the window's other voxels too."""
    torch.manual_seed(0)
    conv = nn.Conv3d(2, 4, 3, padding=1).requires_grad_(False)
    return lambda image_BCXYZ: conv(image_BCXYZ).softmax(1)


@pytest.fixture(scope="module")
def monai():
    from monai.inferers import sliding_window_inference

    return sliding_window_inference


@settings(max_examples=60)
@given(size=SIDES, window=WINDOWS, overlap=st.floats(0, 0.8), batch=st.integers(1, 4), seed=st.integers(0, 99))
def test_windows_equal_monai(network, monai, size, window, overlap, batch, seed):
    """Odd shapes, images smaller than the window along any axis, windows that do not divide anything."""
    image = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 2, *size), dtype=np.float32))
    more = {"overlap": overlap, "mode": "gaussian", "padding_mode": "replicate"}
    theirs = monai(image, window, batch, network, **more)[0]
    torch.testing.assert_close(whole(network, image[0].numpy(), window, overlap, batch), theirs, atol=1e-5, rtol=0)


@settings(max_examples=20)
@given(SIDES, WINDOWS, st.floats(0, 0.8))
def test_blended_windows_equal_the_whole_for_a_voxelwise_network(size, window, overlap):
    image = np.random.default_rng(0).standard_normal((3, *size), dtype=np.float32)
    found = whole(lambda x: x.softmax(1), image, window, overlap)
    torch.testing.assert_close(found, torch.from_numpy(image).softmax(0), rtol=1e-4, atol=1e-5)


def test_slabs_come_before_all_windows_are_predicted():
    asked, given_out = [], []
    image = np.zeros((1, 40, 8, 8), np.float32)

    def predictor(image_BCXYZ):
        asked.append(1)
        return torch.full((1, 2, 8, 8, 8), 0.5)

    for slab in slabs(predictor, image, (8, 8, 8), 0.5):
        given_out.append((len(asked), slab.shape[1]))
    assert given_out[0][0] < given_out[-1][0] and sum(planes for _, planes in given_out) == 40


def test_an_image_that_may_not_be_written_to_is_predicted_all_the_same(network):
    image = np.random.default_rng(0).standard_normal((2, 9, 9, 9), dtype=np.float32)
    expected = whole(network, image, (5, 5, 5), 0.5)
    image.flags.writeable = False
    assert torch.equal(whole(network, image, (5, 5, 5), 0.5), expected)


def test_gaussian_peaks_in_the_middle_and_never_vanishes():
    weight = gaussian((9, 9, 5))
    assert weight.argmax() == weight.numel() // 2
    assert weight.min() >= 1e-3 * weight.max()


def test_memory_does_not_grow_with_the_length_of_the_image():
    """In a process of its own: how the peak grows as an image of 64, then one of 640 planes is predicted."""
    code = (
        "import resource, numpy as np, torch; from bench.windows import slabs\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "peaks = [peak()]\n"
        "for planes in (64, 640):\n"
        "    image = np.zeros((1, planes, 96, 96), np.float32)\n"
        "    predictor = lambda x: torch.full((1, 8, *x.shape[2:]), 0.125)\n"
        "    assert all(float(slab.sum()) > 0 for slab in slabs(predictor, image, (32, 32, 32), 0.5))\n"
        "    peaks.append(peak())\n"
        "print(*peaks)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    start, short, long = map(int, done.stdout.split())
    held, image, output = 4 * (8 + 2) * 32 * 96 * 96, 4 * 640 * 96 * 96, 4 * 8 * 640 * 96 * 96
    assert short - start < 2.5 * held
    assert long - short < image + held < output / 4
