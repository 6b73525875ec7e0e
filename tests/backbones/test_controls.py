"""Which block stands in each arm, and that a random one is never taken for another."""

from __future__ import annotations

import pytest
import torch

import backbones
from backbones import controls, weights
from tests.backbones import tiny


def same(one, other) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", tiny.REPRESENTATIVES)
def test_random_twin_follows_its_seed_and_leaves_the_global_state(name):
    row = tiny.spec(name)
    before = torch.get_rng_state()
    one = controls.build(row, "random", row.layer, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    assert same(one, controls.build(row, "random", row.layer, seed=5))
    assert not same(one, controls.build(row, "random", row.layer, seed=6))
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_random_twin_is_drawn_as_its_family_draws():
    gpt2 = controls.build(tiny.spec("gpt2"), "random", None).layer
    assert float(gpt2.attn.c_attn.weight.std()) == pytest.approx(0.02, rel=0.05)
    assert float(gpt2.attn.c_proj.weight.std()) == pytest.approx(0.02 / 24**0.5, rel=0.05)  # 2 × 12 residual layers
    gemma = controls.build(tiny.spec("gemma3-270m"), "random", None).layer
    assert float(gemma.input_layernorm.weight.abs().max()) == 0
    assert float(controls.build(tiny.spec("llama3"), "random", None).layer.input_layernorm.weight.min()) == 1


def test_stand_in_is_the_tiny_twin_of_the_full_row():
    block = controls.build(backbones.get("llama3"), "stand-in", 31)
    assert block.width == backbones.stand_in(backbones.get("llama3")).width == 64
    assert block(torch.zeros(1, 3, 64)).shape == (1, 3, 64)


def test_none_has_no_block_and_unknown_is_refused():
    assert controls.build(backbones.get("llama3"), "none", None) is None
    with pytest.raises(ValueError, match="unknown control 'randon'"):
        controls.build(backbones.get("llama3"), "randon", None)


def test_pretrained_without_weights_is_an_error_and_never_random(cache):
    with pytest.raises(weights.WeightsMissing, match="bench weights fetch smollm2"):
        controls.build(backbones.get("smollm2"), "pretrained", None)


def test_pretrained_reads_the_given_file_and_differs_from_the_twin(cache, tmp_path):
    row = tiny.spec("smollm2")
    kept = weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "c", row))
    block = controls.build(row, "pretrained", row.layer, kept)
    assert same(block, tiny.strong_block(row))
    assert not same(block, controls.build(row, "random", row.layer))
