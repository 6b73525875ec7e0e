"""Sliding windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.evaluate import corners, gaussian, predict

SIZES = st.tuples(*[st.integers(1, 40)] * 3)


@given(SIZES, st.sampled_from([(8, 8, 8), (5, 7, 3)]), st.floats(0, 0.9))
def test_windows_cover_every_voxel_and_stay_inside(size, window, overlap):
    padded = tuple(max(s, w) for s, w in zip(size, window, strict=True))
    seen = np.zeros(padded, dtype=int)
    for corner in corners(padded, window, overlap):
        assert all(0 <= c <= p - w for c, p, w in zip(corner, padded, window, strict=True))
        seen[tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))] += 1
    assert seen.min() >= 1


class Voxelwise(nn.Module):
    """A model whose answer for a voxel depends on that voxel alone, so that windows cannot matter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([[-1.0], [0.5], [2.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("kc,bcxyz->bkxyz", self.scale, x)


@settings(max_examples=20, deadline=None)
@given(SIZES, st.floats(0, 0.8))
def test_blended_windows_equal_the_whole_for_a_voxelwise_model(size, overlap):
    image = np.random.default_rng(0).standard_normal((1, *size), dtype=np.float32)
    model = Voxelwise()
    found = predict(model, image, (8, 6, 8), overlap, classes=3)
    torch.testing.assert_close(found, model(torch.from_numpy(image)[None]).softmax(1)[0], rtol=1e-4, atol=1e-5)


def test_gaussian_peaks_in_the_middle_and_never_vanishes():
    weight = gaussian((9, 9, 5))
    assert weight.argmax() == weight.numel() // 2
    assert weight.min() >= 1e-3 * weight.max()


@pytest.mark.slow  # importing MONAI takes six seconds
def test_windows_equal_monai():
    from monai.inferers import sliding_window_inference

    torch.manual_seed(0)
    conv = nn.Conv3d(1, 3, 5, padding=2)
    image = torch.randn(1, 1, 30, 25, 20)
    probability = lambda x: conv(x).softmax(1)  # noqa: E731
    theirs = sliding_window_inference(image, (16, 16, 16), 1, probability, overlap=0.5, mode="gaussian")
    ours = predict(conv, image[0].numpy(), (16, 16, 16), 0.5, classes=3)
    # Both blend with a Gaussian of an eighth of the window, but MONAI spreads its windows otherwise.
    assert (ours.argmax(0) == theirs[0].argmax(0)).float().mean() > 0.97
