"""A prediction on the image's own grid: back from the prepared one, mirrored copies, what is no number."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.data.grid import Grid, to_native
from bench.errors import PredictionError
from bench.evaluate import Inference, mirrored, predict, predict_native, probabilities
from bench.native import planes

SIDES = st.tuples(*[st.integers(1, 14)] * 3)


def tuples(affine: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in affine)


@st.composite
def grids(draw) -> Grid:
    """Any prepared shape, content box, orientation and axis apart."""
    native = draw(SIDES)
    box = tuple((first := draw(st.integers(0, side - 1)), draw(st.integers(first + 1, side))) for side in native)
    axes = draw(st.permutations("RAS"))
    codes = [draw(st.sampled_from({"R": "RL", "A": "AP", "S": "SI"}[axis])) for axis in axes]
    turn = nib.orientations.axcodes2ornt(codes)
    affine = nib.orientations.inv_ornt_aff(turn, native)
    return Grid(native, tuples(affine), box, draw(SIDES), draw(st.sampled_from([None, 0, 1, 2])))


@settings(max_examples=80)
@given(grids(), st.integers(2, 4), st.integers(1, 5), st.integers(0, 99))
def test_planes_streamed_back_equal_the_whole_resampled(grid, classes, step, seed):
    values = np.random.default_rng(seed).random((classes, *grid.shape), dtype=np.float32)
    label = np.zeros(grid.native_shape, np.uint8)
    found = {x: plane.clone() for x, plane in planes(torch.from_numpy(values).split(step, dim=1), grid)}
    assert sorted(found) == list(range(grid.box_shape[0]))
    probability = torch.stack([found[x] for x in sorted(found)], 1).numpy()
    best = np.sort(probability, axis=0)
    sure = best[-1] - best[-2] > 1e-4  # elsewhere the last bit decides
    label = to_native(values, grid)[grid.inside]
    from bench.data.grid import to_ras

    assert np.array_equal(to_ras(label, np.array(grid.affine))[sure], probability.argmax(0)[sure])


class Voxelwise(nn.Module):
    """Logits of a voxel from that voxel alone; with sided also from its place, so that mirroring matters."""

    def __init__(self, sided: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([[-1.0], [0.5], [2.0]]))
        self.sided = sided

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(0, 1, x.shape[2])[:, None, None] if self.sided else 1.0
        return torch.einsum("kc,bcxyz->bkxyz", self.scale, x) * place


@pytest.mark.parametrize(("mirror", "copies"), [("", 1), ("x", 2), ("yz", 4), ("xyz", 8)])
def test_mirrored_copies_are_averaged_by_hand(mirror, copies):
    torch.manual_seed(0)
    model = nn.Conv3d(1, 3, 3, padding=1)
    image = torch.randn(2, 1, 6, 5, 4)
    axes = mirrored(mirror)
    assert len(axes) == copies == len(set(axes)) and axes[0] == ()
    with torch.no_grad():
        expected = sum(model(image.flip(some)).softmax(1).flip(some) for some in axes) / copies
    found = probabilities(model, Inference((6, 5, 4), mirror=mirror))(image)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def test_mirroring_removes_a_side_that_the_model_prefers():
    image = np.ones((1, 8, 4, 4), np.float32)
    plain, both = (
        next(predict(Voxelwise(sided=True), image, Inference((8, 4, 4), mirror=mirror), "case")) for mirror in ("", "x")
    )
    assert not torch.allclose(plain, plain.flip(1)) and torch.allclose(both, both.flip(1))


def test_bf16_is_computed_under_autocast_and_blended_in_fp32():
    seen = []

    class Look(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 1)

        def forward(self, x):
            out = self.conv(x)
            seen.append(out.dtype)
            return out

    for precision in ("fp32", "bf16"):
        slab = next(predict(Look(), np.ones((1, 4, 4, 4), np.float32), Inference((4, 4, 4), precision=precision), "c"))
        assert slab.dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_no_number_names_the_case(value):
    class Sick(Voxelwise):
        def forward(self, x):
            out = super().forward(x).clone()
            out[0, 1, 3, 2, 1] = value
            return out

    with pytest.raises(PredictionError, match="case7: the network's output is not a number"):
        list(predict(Sick(), np.ones((1, 9, 6, 6), np.float32), Inference((5, 4, 4)), "case7"))


@settings(max_examples=30)
@given(grids(), st.integers(0, 9))
def test_labels_and_probabilities_lie_on_the_native_grid(grid, seed):
    """A whole oriented, cropped image: outside the content it is background, inside the likeliest class."""
    image = np.random.default_rng(seed).standard_normal((1, *grid.shape), dtype=np.float32)
    into = np.full((3, *grid.native_shape), np.nan, np.float32)
    label = predict_native(Voxelwise(), image, grid, Inference((4, 4, 4)), "case", None, into)
    assert label.dtype == np.uint8 and label.shape == grid.native_shape
    np.testing.assert_allclose(into.sum(0), 1, atol=1e-5)
    outside = np.ones(grid.native_shape, bool)
    outside[grid.inside] = False
    assert not label[outside].any() and (into[0][outside] == 1).all()
    best = np.sort(into, axis=0)
    sure = best[-1] - best[-2] > 1e-6
    assert np.array_equal(label[sure], into.argmax(0)[sure])
    alone = predict_native(Voxelwise(), image, grid, Inference((4, 4, 4)), "case")
    assert np.array_equal(label, alone)
