"""One contract, run over every family of the registry at tiny size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import backbones
from backbones import architecture, block, registry
from backbones.block import Block
from backbones.spec import BlockOptions
from tests.backbones import tiny

every_family = pytest.mark.parametrize("name", tiny.REPRESENTATIVES)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several threads are no help for tensors this small, and wait for each other where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def every_rotary(name: str) -> list[bool]:
    return [False, True] if registry.family(backbones.get(name)).rotary else [False]


def tokens(width: int, batch: int = 2, count: int = 7, seed: int = 3) -> Tensor:
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


def earlier_tokens_move(run: Block, x_BND: Tensor) -> float:
    """How far all tokens but the last move when the last is replaced by other random noise."""
    other_BND = x_BND.clone()
    other_BND[:, -1] = torch.randn(x_BND.shape[0], x_BND.shape[2], generator=torch.Generator().manual_seed(9))
    return float((run(x_BND) - run(other_BND))[:, :-1].abs().max())


def apart(one: Tensor, other: Tensor) -> float:
    """Relative distance, by the Frobenius norm."""
    return float((one - other).detach().norm() / other.detach().norm())


def test_every_family_is_here():
    families = {backbones.get(name).family for name in backbones.names()}
    assert families == {backbones.get(name).family for name in tiny.REPRESENTATIVES}


@every_family
def test_keeps_shape_and_dtype(name):
    block = tiny.strong_block(tiny.spec(name))

    @settings(max_examples=8, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 9), st.sampled_from([torch.float32, torch.bfloat16]))
    def check(batch, count, dtype):
        x_BND = tokens(block.width, batch, count).to(dtype)
        y_BND = block(x_BND)
        assert y_BND.shape == x_BND.shape
        assert y_BND.dtype == dtype
        assert y_BND.isfinite().all()

    check()


@every_family
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


@every_family
def test_gradient_reaches_every_token_of_the_input(name):
    block = tiny.strong_block(tiny.spec(name))
    x_BND = tokens(block.width).requires_grad_()
    block(x_BND)[:, 0].square().sum().backward()
    assert (x_BND.grad.abs().amax(dim=2) > 0).all()
    assert all(parameter.grad is None for parameter in block.parameters())


@every_family
def test_is_deterministic_and_forgets_what_it_saw_before(name):
    row = tiny.spec(name)
    for rotary in every_rotary(name):
        for causal in (False, True):
            options = BlockOptions(rotary=rotary, causal=causal)
            block, fresh = tiny.strong_block(row, options).train(), tiny.strong_block(row, options)
            first = block(tokens(block.width))
            with torch.inference_mode():
                block(tokens(block.width, count=4).bfloat16())
                block(tokens(block.width, count=9))
            x_BND = tokens(block.width, count=9).requires_grad_()
            block(x_BND).sum().backward()  # nothing that inference mode left behind stands in the way
            assert torch.equal(block(tokens(block.width)), first)
            assert torch.equal(block(x_BND), fresh(x_BND))


def layer_in_its_model(row) -> tuple[nn.Module, Tensor, Tensor, dict]:
    """A layer of transformers' own model, what came in and out as the model ran, and its other arguments."""
    model = tiny.reference_model(row)
    layer, seen = tiny.layers(model, row)[row.layer], {}

    def keep(module, args, kwargs, output):
        named = {"hidden_states": args[0]} | kwargs if args else dict(kwargs)
        seen.update(x=named.pop("hidden_states"), y=output[0] if isinstance(output, tuple) else output, kwargs=named)

    with layer.register_forward_hook(keep, with_kwargs=True), torch.no_grad():
        model(torch.arange(10).reshape(2, 5), use_cache=False)
    return layer, seen["x"], seen["y"], seen["kwargs"]


@every_family
def test_equals_the_layer_of_transformers(name):
    row = tiny.spec(name)
    layer, x_BND, y_BND, kwargs = layer_in_its_model(row)
    causal = any(getattr(part, "is_causal", False) for part in layer.modules())
    assert causal == (row.family != "bert")
    as_in_the_model = BlockOptions(rotary=every_rotary(name)[-1], causal=causal)
    assert_close = torch.testing.assert_close
    assert_close(tiny.strong_block(row, as_in_the_model)(x_BND), y_BND, rtol=1e-4, atol=1e-5)
    kwargs["attention_mask"] = torch.zeros(1, 1, 5, 5)
    for rotary in reversed(every_rotary(name)):
        if not rotary and "position_embeddings" in kwargs:
            cos, sin = kwargs["position_embeddings"]
            kwargs["position_embeddings"] = (torch.ones_like(cos), torch.zeros_like(sin))
        expected = layer(x_BND, **kwargs)
        expected = expected[0] if isinstance(expected, tuple) else expected
        assert_close(tiny.strong_block(row, BlockOptions(rotary=rotary))(x_BND), expected, rtol=1e-4, atol=1e-5)


@every_family
def test_is_bidirectional_and_the_probe_can_fail(name):
    row = tiny.spec(name)
    for rotary in every_rotary(name):
        block = tiny.strong_block(row, BlockOptions(rotary=rotary))
        assert earlier_tokens_move(block, tokens(block.width)) > 1e-2
        causal = tiny.strong_block(row, BlockOptions(rotary=rotary, causal=True))
        assert earlier_tokens_move(causal, tokens(block.width)) < 1e-5


@every_family
def test_permutes_with_its_tokens_only_without_rotary(name):
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    for rotary in every_rotary(name):
        block = tiny.strong_block(tiny.spec(name), BlockOptions(rotary=rotary))
        x_BND = tokens(block.width)
        moved = float((block(x_BND[:, order]) - block(x_BND)[:, order]).abs().max())
        assert (moved > 1e-3) if rotary else (moved < 1e-4)


@every_family
def test_checkpointing_computes_the_same_twice(name):
    row, results = tiny.spec(name), []
    for checkpointing in (False, True):
        block = tiny.strong_block(row, BlockOptions(rotary=every_rotary(name)[-1], checkpointing=checkpointing))
        calls = []
        x_BND = tokens(block.width).requires_grad_()
        with block.layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1)):
            y_BND = block(x_BND)
            y_BND.square().sum().backward()
            with torch.no_grad():
                block(x_BND)
        results.append((y_BND, x_BND.grad))
        assert len(calls) == 2 + checkpointing
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@every_family
def test_bf16_and_autocast_are_close_to_fp32(name):
    row = tiny.spec(name)
    exact, rough = (tiny.strong_block(row, BlockOptions(dtype=dtype)) for dtype in ("fp32", "bf16"))
    assert {parameter.dtype for parameter in rough.parameters()} == {torch.bfloat16}
    x_BND, z_BND = (tokens(exact.width).requires_grad_() for _ in range(2))
    expected, found = exact(x_BND), rough(z_BND)
    assert found.dtype == torch.float32
    assert 0 < apart(found, expected) < 0.05
    expected.sum().backward()
    found.sum().backward()
    assert apart(z_BND.grad, x_BND.grad) < 0.1
    with torch.autocast("cpu", torch.bfloat16):
        assert apart(exact(x_BND), expected) < 0.05


@every_family
def test_trainable_starts_the_same_and_learns_everywhere(name):
    frozen = tiny.strong_block(tiny.spec(name))
    x_BND = tokens(frozen.width)
    before = frozen(x_BND)
    learner = block.trainable(frozen).train()
    assert torch.equal(learner(x_BND), before)
    learner(x_BND)[:, :3].square().sum().backward()
    assert all(parameter.grad is not None for parameter in learner.parameters())
    torch.optim.SGD(learner.parameters(), lr=1e-3).step()
    assert not torch.equal(learner(x_BND), before)
    assert torch.equal(learner(x_BND), learner(x_BND))


@pytest.mark.parametrize("name", backbones.names())
def test_counts_its_parameters_at_full_size(name):
    row = backbones.get(name)
    layer = architecture.empty_layer(row, row.layer)
    assert backbones.block_parameters(row) == sum(parameter.numel() for parameter in layer.parameters())
    if tensors := registry.family(row).tensors:
        assert set(tensors) == set(layer.state_dict())


@pytest.mark.parametrize("name", [name for name in tiny.REPRESENTATIVES if len(every_rotary(name)) == 1])
def test_rotary_is_refused_where_there_is_none(name):
    with pytest.raises(ValueError, match=f"{name}.*no rotary"):
        tiny.strong_block(tiny.spec(name), BlockOptions(rotary=True))
