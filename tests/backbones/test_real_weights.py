"""The two backbones whose weights come with pip, measured: `pytest -m weights tests/backbones`."""

from __future__ import annotations

import pytest
import torch

import backbones
from backbones import controls, weights


def amplification(block) -> float:
    """|block(x) − x| / |x| (Frobenius) for x ~ N(0, 1) of shape (1, 64, width)."""
    x_BND = torch.randn(1, 64, block.width, generator=torch.Generator().manual_seed(0))
    return float((block(x_BND) - x_BND).norm() / x_BND.norm())


@pytest.mark.weights
@pytest.mark.parametrize(("name", "pretrained", "random"), [("smollm2", 10.7, 0.10), ("gemma3-270m", 395, 1.41)])
def test_amplification_of_the_real_block_and_of_its_twin(name, pretrained, random, cache):
    row = backbones.get(name)
    kept = weights.fetch(row)
    block = controls.build(row, "pretrained", row.layer, kept, rotary=True)
    assert amplification(block) == pytest.approx(pretrained, rel=0.05)
    twin = controls.build(row, "random", row.layer, seed=0, rotary=True)
    assert amplification(twin) == pytest.approx(random, rel=0.10)
    assert weights.fetch(row) == kept
