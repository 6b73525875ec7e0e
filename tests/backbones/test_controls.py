"""Which block stands in each arm, and that a random one is never taken for another."""

from __future__ import annotations

import pytest
import torch

import backbones
from backbones import controls, weights
from backbones.spec import BlockOptions
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


def test_unknown_is_refused():
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


@pytest.fixture
def kept(cache, tmp_path):
    """A tiny block of the smollm2 architecture, fetched as any other."""
    row = tiny.spec("smollm2")
    return weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "c", row))


def entries(block) -> dict[str, torch.Tensor]:
    """The block's parameters by the layer's own names, without what LoRA adds."""
    named = {name.replace("base_layer.", ""): value for name, value in block.layer.state_dict().items()}
    return {name: value for name, value in named.items() if "lora_" not in name}


def test_shuffled_keeps_every_number_and_no_place(kept):
    row = tiny.spec("smollm2")
    real, mixed = (entries(controls.build(row, name, None, kept)) for name in ("pretrained", "shuffled"))
    for name, tensor in real.items():
        assert torch.equal(mixed[name].flatten().sort().values, tensor.flatten().sort().values), name
        assert not torch.equal(mixed[name], tensor), name
    again = entries(controls.build(row, "shuffled", None, kept))
    other = entries(controls.build(row, "shuffled", None, kept, seed=1))
    assert all(torch.equal(mixed[name], again[name]) and not torch.equal(mixed[name], other[name]) for name in mixed)
    assert not any(p.requires_grad for p in controls.build(row, "shuffled", None, kept).parameters())


def learn(block, steps: int = 3) -> None:
    """A few steps on random tokens, through a mapper as the segmenter has one."""
    mapper = torch.nn.Linear(8, block.width)
    learning = [p for p in (*mapper.parameters(), *block.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.1)
    for step in range(steps):
        x_BND = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(step))
        block(mapper(x_BND)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_trainable_starts_as_the_pretrained_block_and_all_of_it_learns_in_fp32(kept, dtype):
    row = tiny.spec("smollm2")
    block = controls.build(row, "trainable", None, kept, options=BlockOptions(dtype=dtype))
    start = {name: value.clone() for name, value in entries(block).items()}
    real = entries(controls.build(row, "pretrained", None, kept))
    assert all(torch.equal(start[name], real[name]) and start[name].dtype == torch.float32 for name in real)
    learn(block)
    assert not any(torch.equal(entries(block)[name], start[name]) for name in start)
    assert all(
        torch.equal(value, real[name]) for name, value in weights.load(row, kept).items()
    )  # the file is untouched
    assert not any(module.training for module in block.train().modules())


def test_lora_starts_as_the_pretrained_block_which_stays(kept):
    row = tiny.spec("smollm2")
    real = controls.build(row, "pretrained", None, kept)
    before = torch.get_rng_state()
    block = controls.build(row, "lora", None, kept, lora_rank=2)
    assert torch.equal(before, torch.get_rng_state())
    x_BND = torch.randn(1, 5, row.width)
    assert torch.equal(block(x_BND), real(x_BND))
    learn(block)
    assert not torch.equal(block(x_BND), real(x_BND))
    assert all(torch.equal(value, entries(real)[name]) for name, value in entries(block).items())


@pytest.mark.parametrize("control", ["random", "stand-in", "shuffled", "lora"])
def test_the_second_of_two_blocks_draws_numbers_of_its_own(kept, control):
    row = tiny.spec("smollm2")
    first, second, again = (
        controls.build(row, control, None, kept, seed=3, second=second) for second in (False, True, True)
    )
    assert same(second, again) and not same(first, second)
    assert not same(second, controls.build(row, control, None, kept, seed=4, second=True))


def test_identity_is_nothing_but_a_width():
    block = controls.build(backbones.get("llama3"), "identity")
    x_BND = torch.randn(1, 2, 4096)
    assert block.width == 4096 and block(x_BND) is x_BND and not list(block.parameters())
