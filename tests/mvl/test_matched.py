"""The controls of capacity have the adapter's number of trainable parameters; LoRA on the mappers trains only LoRA."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvl.adapter import BlockAdapter
from mvl.config import CHOICES, SegmenterConfig
from mvl.matched import Matched, Remainder, adapter_parameters, trainable_parameters
from mvl.model import Segmenter
from tests.mvl.test_segmenter import TINY, Block, tiny


def config(**changes: object) -> SegmenterConfig:
    return SegmenterConfig(**({"channels": 2, "classes": 3} | TINY | changes))


@settings(max_examples=40, deadline=None)
@given(
    width=st.sampled_from([32, 64, 96, 384]),
    block_width=st.integers(512, 4608),
    lora=st.sampled_from([0, 4]),
    attention=st.sampled_from(["global", "hybrid"]),
    kind=st.sampled_from(["mlp", "depth"]),
)
def test_the_matched_arm_trains_just_as_many_parameters(width, block_width, lora, attention, kind):
    """All widths of the registry's blocks, at those of the presets, with the mappers trained either way."""
    settings_ = config(width=width, attention=attention, mapper_lora=lora, heads=2)
    wanted = adapter_parameters(settings_, block_width)
    with torch.device("meta"):
        assert trainable_parameters(Matched(kind, block_width).build(settings_)) == wanted


@pytest.mark.parametrize("lora", [0, 4])
@settings(deadline=None, max_examples=20)
@given(width=st.sampled_from([16, 64]), block_width=st.integers(4, 300))
def test_the_count_is_that_of_the_adapter_itself(lora, width, block_width):
    settings_ = config(width=width, mapper_lora=lora)
    adapter = BlockAdapter(Block(block_width), settings_)
    assert adapter_parameters(settings_, block_width) == trainable_parameters(adapter)
    mappers = 2 * lora * (width + block_width) if lora else 2 * width * block_width + width + block_width
    assert adapter_parameters(settings_, block_width) == mappers + 2 * width + 2 * block_width


@settings(max_examples=10)
@given(st.sampled_from(CHOICES["placement"]), st.sampled_from(["mlp", "depth"]), st.integers(200, 400))
def test_at_two_places_the_mappers_are_two_pairs_and_so_is_what_is_matched_and_the_block_is_one(place, kind, width):
    bare, block = trainable_parameters(tiny()), Block(width)
    plugged = tiny(block, placement=place)
    added = trainable_parameters(plugged) - bare
    assert added == len(place.split("+")) * adapter_parameters(config(), width)
    assert trainable_parameters(tiny_with(Matched(kind, width), placement=place)) == bare + added
    frozen = sum(parameter.numel() for parameter in plugged.parameters() if not parameter.requires_grad)
    assert frozen == sum(parameter.numel() for parameter in block.parameters())


def test_what_cannot_be_matched_is_refused_by_the_flags_name():
    with pytest.raises(ValueError, match=r"--controls depth: .* leave out depth, or use a smaller"):
        tiny_with(Matched("depth", 4), mapper_lora=1)


def tiny_with(matched: Matched, **changes: object) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(config(**changes), matched=matched)


@pytest.mark.parametrize("matched", [Matched("mlp", 200), Matched("depth", 200)], ids=lambda m: m.kind)
@pytest.mark.parametrize("placement", CHOICES["placement"])
def test_a_matched_arm_is_the_baseline_and_a_trained_part(matched, placement):
    bare, model = tiny().state_dict(), tiny_with(matched, placement=placement)
    assert all(torch.equal(bare[name], model.state_dict()[name]) for name in bare)
    image = torch.randn(2, 2, 8, 8, 8)
    logits = model(image)
    assert logits.shape == (2, 3, 8, 8, 8) and not torch.allclose(logits, tiny()(image))
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@settings(deadline=None, max_examples=6)
@given(st.integers(1, 6))
def test_lora_on_the_mappers_trains_low_rank_changes_and_the_norms(rank):
    block = Block()
    model = tiny(block, mapper_lora=rank)
    learning = {name for name, p in model.adapters.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in learning} == {"norm_in", "map_in", "norm_out", "map_out"}
    assert all("lora_" in name for name in learning if ".map_" in name)
    assert all(p.requires_grad for name, p in model.named_parameters() if not name.startswith("adapters."))
    plain, image = tiny(block), torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(plain(image), model(image))  # LoRA starts as no change


def test_lora_on_the_mappers_leaves_a_block_that_learns_alone():
    block = Block()
    block.map.requires_grad_(True)
    model = tiny(block, mapper_lora=2)
    assert all(parameter.requires_grad for parameter in model.adapters["after"].block.parameters())


def test_what_no_hidden_unit_takes_up_is_a_scale_and_a_shift():
    part = Remainder(24, 16)
    x_BND = torch.randn(1, 3, 16)
    assert torch.equal(part(x_BND), x_BND)
    torch.nn.init.ones_(part.values)
    expected = 2 * x_BND
    expected[..., :8] += 1
    torch.testing.assert_close(part(x_BND), expected)


def test_rank_is_checked():
    with pytest.raises(ValueError, match=r"model.mapper_lora: -1 is not a whole number from 0"):
        config(mapper_lora=-1)
