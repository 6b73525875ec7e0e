"""Any number of channels and classes, any patch, any image: padding inside, and positions on another grid."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvl.config import CHOICES
from mvl.patches import PatchEmbedding, pad_to_multiple, to_grid, to_tokens
from mvl.skips import from_cells, to_cells
from tests.mvl.test_segmenter import Block, tiny

SIDES = st.tuples(*[st.integers(1, 13)] * 3)
PATCHES = st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 3)


@settings(max_examples=40)
@given(
    size=SIDES.filter(lambda size: max(size) > 4),
    patch=PATCHES.filter(lambda patch: max(patch) > 1),
    channels=st.integers(1, 5),
    classes=st.integers(2, 6),
    batch=st.integers(1, 2),
    decoder=st.sampled_from(CHOICES["decoder"]),
)
def test_any_image_gives_logits_of_its_size(size, patch, channels, classes, batch, decoder):
    model = tiny(Block(), channels=channels, classes=classes, patch=patch, decoder=decoder).eval()
    logits = model(torch.randn(batch, channels, *size))
    assert logits.shape == (batch, classes, *size) and logits.isfinite().all()


@settings(max_examples=20)
@given(SIDES, st.sampled_from(CHOICES["decoder"]))
def test_a_size_that_is_no_multiple_is_the_same_as_its_edge_continued_by_hand(size, decoder):
    model = tiny(decoder=decoder).eval()
    image = torch.randn(1, 2, *size)
    x, y, z = size
    torch.testing.assert_close(model(image), model(by_hand(image, (4, 4, 4)))[..., :x, :y, :z])


def by_hand(image: torch.Tensor, step: tuple[int, ...]) -> torch.Tensor:
    beyond = [(0, -side % by) for side, by in zip(image.shape[2:], step, strict=True)]
    return torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), *beyond], mode="edge"))


@given(SIDES, PATCHES)
def test_padding_reaches_the_next_multiple_and_no_further(size, patch):
    image = torch.randn(1, 2, *size)
    padded = pad_to_multiple(image, patch)
    for side, old, step in zip(padded.shape[2:], size, patch, strict=True):
        assert side % step == 0 and 0 <= side - old < step
    assert torch.equal(padded, by_hand(image, patch))


@settings(max_examples=25)
@given(SIDES, SIDES)
def test_positions_on_another_grid_are_interpolated(trained, asked):
    embed = PatchEmbedding(1, (2, 2, 2), trained, 8)
    rising = torch.linspace(0, 1, trained[2]).expand(1, 8, *trained)
    embed.position_1DUVW.data = rising.clone()
    embed.project.weight.data.zero_()
    embed.project.bias.data.zero_()
    tokens, grid = embed(torch.zeros(1, 1, *(2 * side for side in asked)))
    found = to_grid(tokens, grid)[0, 0]
    assert found.shape == asked and (found >= -1e-6).all() and (found <= 1 + 1e-6).all()
    assert (found.diff(dim=2) >= -1e-6).all() and (found.diff(dim=0).abs() < 1e-6).all()
    if trained == asked:
        torch.testing.assert_close(found, rising[0, 0])


@given(st.tuples(*[st.integers(1, 3)] * 3), PATCHES, st.integers(1, 3))
def test_cells_and_tokens_go_there_and_back(grid, cell, channels):
    image = torch.randn(2, channels, *(side * step for side, step in zip(grid, cell, strict=True)))
    cells = to_cells(image, cell)
    assert cells.shape == (2, channels * cell[0] * cell[1] * cell[2], *grid)
    assert torch.equal(from_cells(cells, cell), image)
    assert torch.equal(to_grid(to_tokens(cells), grid), cells)
    p, q, r = cell
    assert torch.equal(cells[0, : p * q * r, 0, 0, 0], image[0, 0, :p, :q, :r].flatten())
