"""LoRA on a frozen block: what learns, what stays, and where it starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from backbones import lora
from backbones.spec import BlockOptions
from tests.backbones import tiny

every_family = pytest.mark.parametrize("name", tiny.REPRESENTATIVES)


def tokens(width: int) -> Tensor:
    return torch.randn(2, 7, width, generator=torch.Generator().manual_seed(3))


@every_family
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_starts_as_the_frozen_block_and_only_its_matrices_learn(name, dtype):
    frozen = tiny.strong_block(tiny.spec(name), BlockOptions(dtype=dtype))
    x_BND, kept = tokens(frozen.width), {key: value.clone() for key, value in frozen.layer.state_dict().items()}
    before = frozen(x_BND)
    block = lora.with_lora(frozen, rank=3).train()
    assert torch.equal(block(x_BND), before)
    optimizer = torch.optim.SGD(block.parameters(), lr=1.0)
    for _ in range(2):  # A has a gradient only once B has moved
        optimizer.zero_grad()
        block(x_BND)[:, :3].square().mean().backward()
        optimizer.step()
    for key, parameter in block.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == ("lora_" in key), key
        if parameter.requires_grad:
            assert parameter.dtype == torch.float32
            assert parameter.grad.abs().sum() > 0, key
    assert not torch.equal(block(x_BND), before)
    found = {key.replace(".base_layer", ""): value for key, value in block.layer.state_dict().items()}
    assert all(torch.equal(found[key], value) for key, value in kept.items())


@every_family
def test_every_linear_layer_has_its_two_matrices(name):
    frozen = tiny.strong_block(tiny.spec(name))
    shapes = [part.weight.shape for part in frozen.layer.modules() if isinstance(part, (nn.Linear, Conv1D))]
    block = lora.with_lora(frozen, rank=5)
    count = sum(parameter.numel() for parameter in block.parameters() if parameter.requires_grad)
    assert count == 5 * sum(sum(shape) for shape in shapes)


def test_is_drawn_from_its_seed_alone():
    row = tiny.spec("gpt2")
    state = torch.get_rng_state()
    blocks = [lora.with_lora(tiny.strong_block(row), 2, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    one, same, other = (block.layer.attn.c_attn.lora_A["default"].weight for block in blocks)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_adds_the_product_of_its_matrices():
    block = lora.with_lora(tiny.strong_block(tiny.spec("gpt2")), 2)
    part = block.layer.mlp.c_fc
    nn.init.normal_(part.lora_B["default"].weight)
    x_BND = tokens(block.width)
    added = x_BND @ part.lora_A["default"].weight.T @ part.lora_B["default"].weight.T
    torch.testing.assert_close(part(x_BND), part.base_layer(x_BND) + added)


@pytest.mark.parametrize("rank", [0, -1])
def test_rank_below_one_is_refused(rank):
    with pytest.raises(ValueError, match=f"block.lora_rank: must be at least 1, not {rank}"):
        lora.with_lora(tiny.strong_block(tiny.spec("gpt2")), rank)
