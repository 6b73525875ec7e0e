"""One contract, run over every row of the registry at tiny size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import backbones
from backbones import architecture, registry
from backbones.block import FrozenBlock
from tests.backbones import tiny

every_row = pytest.mark.parametrize("name", backbones.names())


def rotary_of(name: str) -> list[bool]:
    return [False, True] if registry.family(backbones.get(name)).rotary else [False]


def tokens(block: FrozenBlock, batch: int = 2, count: int = 7, seed: int = 3) -> Tensor:
    return torch.randn(batch, count, block.width, generator=torch.Generator().manual_seed(seed))


def earlier_tokens_move(run, x_BND: Tensor) -> float:
    """How far all tokens but the last move when the last is replaced by other random noise."""
    other_BND = x_BND.clone()
    other_BND[:, -1] = torch.randn(x_BND.shape[0], x_BND.shape[2], generator=torch.Generator().manual_seed(9))
    return float((run(x_BND) - run(other_BND))[:, :-1].abs().max())


@every_row
def test_keeps_shape_and_dtype(name):
    block = tiny.strong_block(tiny.spec(name))

    @settings(max_examples=8, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 9), st.sampled_from([torch.float32, torch.bfloat16]))
    def check(batch, count, dtype):
        x_BND = tokens(block, batch, count).to(dtype)
        y_BND = block(x_BND)
        assert y_BND.shape == x_BND.shape
        assert y_BND.dtype == dtype
        assert y_BND.isfinite().all()

    check()


@every_row
def test_stays_frozen_while_all_around_it_learns(name):
    block = tiny.strong_block(tiny.spec(name))
    model = nn.Sequential(nn.Linear(4, block.width), block, nn.Linear(block.width, 1)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("1."), key
    assert not any(module.training for module in block.modules())


@every_row
def test_gradient_reaches_every_token_of_the_input(name):
    block = tiny.strong_block(tiny.spec(name))
    x_BND = tokens(block).requires_grad_()
    block(x_BND)[:, 0].square().sum().backward()
    assert (x_BND.grad.abs().amax(dim=2) > 0).all()
    assert all(parameter.grad is None for parameter in block.parameters())


@every_row
def test_is_deterministic(name):
    block = tiny.strong_block(tiny.spec(name)).train()
    assert torch.equal(block(tokens(block)), block(tokens(block)))


@every_row
def test_equals_the_layer_of_transformers(name):
    row = tiny.spec(name)
    model = tiny.reference_model(row)
    for rotary in rotary_of(name):
        block = tiny.strong_block(row, rotary)
        x_BND = tokens(block)
        options = {}
        if rotary:
            kind = [model.config.layer_types[row.layer]] if name.startswith("gemma") else []
            options["position_embeddings"] = model.rotary_emb(x_BND, torch.arange(7)[None], *kind)
        elif hasattr(model, "rotary_emb"):
            continue  # transformers cannot switch it off; permutation equivariance below shows that we do
        expected = tiny.layers(model)[row.layer](x_BND, attention_mask=None, **options)
        torch.testing.assert_close(block(x_BND), expected, rtol=1e-4, atol=1e-5)


@every_row
def test_is_bidirectional_and_the_probe_can_fail(name):
    for rotary in rotary_of(name):
        block = tiny.strong_block(tiny.spec(name), rotary)
        assert earlier_tokens_move(block, tokens(block)) > 1e-2

        def causal(x_BND, block=block):
            count = x_BND.shape[1]
            mask = torch.full((1, 1, count, count), -torch.inf).triu(1)
            options = {"position_embeddings": block._positions(x_BND)} if block._wants_positions else {}
            return block.layer(x_BND, attention_mask=mask, **options)

        assert earlier_tokens_move(causal, tokens(block)) < 1e-5


@every_row
def test_permutes_with_its_tokens_only_without_rotary(name):
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    for rotary in rotary_of(name):
        block = tiny.strong_block(tiny.spec(name), rotary)
        x_BND = tokens(block)
        apart = float((block(x_BND[:, order]) - block(x_BND)[:, order]).abs().max())
        assert (apart > 1e-2) if rotary else (apart < 1e-4)


@every_row
def test_runs_under_autocast(name):
    block = tiny.strong_block(tiny.spec(name))
    with torch.autocast("cpu", torch.bfloat16):
        rough = block(tokens(block))
    exact = block(tokens(block))
    assert float((rough - exact).norm() / exact.norm()) < 0.05


@every_row
def test_counts_its_parameters_at_full_size(name):
    row = backbones.get(name)
    layer = architecture.empty_layer(row, row.layer)
    assert backbones.block_parameters(row) == sum(parameter.numel() for parameter in layer.parameters())
    assert set(registry.family(row).tensors) == set(layer.state_dict())


def test_gpt2_has_no_rotary_embedding():
    with pytest.raises(ValueError, match=r"gpt2.*no rotary"):
        tiny.strong_block(tiny.spec("gpt2"), rotary=True)
