"""The segmenter: shapes, parameter counts, gradients, and a plain reference at tiny size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mvl.config import CHOICES, SegmenterConfig
from mvl.ladder import upsampling_steps
from mvl.loss import batch_dice, dice_ce_loss
from mvl.model import Segmenter
from mvl.skips import Convs
from mvl.vit import EncoderBlock

TINY = {"image": (8, 8, 8), "patch": (4, 4, 4), "width": 16, "depth": 2, "heads": 2}


class Block(nn.Module):
    """Stands where an LLM block would: another width, frozen."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.width = width
        self.map = nn.Linear(width, width).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.map(x))


def tiny(block: nn.Module | dict[str, nn.Module] | None = None, **changes: object) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(SegmenterConfig(**({"channels": 2, "classes": 3} | TINY | changes)), block)


SWITCHES = [
    {},
    {"attention": "global"},
    {"fusion": "none"},
    {"decoder": "linear"},
    {"attention": "global", "fusion": "none", "decoder": "linear"},
    {"placement": "middle"},
    {"placement": "before"},
    {"placement": "middle+after"},
    {"placement": "before+after", "mapper_lora": 2},
    {"decoder": "subpixel"},
    {"stem": "conv"},
    {"stem": "conv", "decoder": "linear"},
    {"stem": "conv", "decoder": "subpixel", "decoder_depth": 2, "patch": (8, 8, 4)},
    {"stem": "conv", "decoder": "subpixel", "patch": (2, 2, 2)},
    {"decoder_depth": 3},
    {"fusion_kernel": 3},
    {"decoder": "subpixel", "decoder_width": 4, "patch": (4, 2, 1), "image": (8, 4, 3)},
    {"residual": False},
    {"patch": (4, 4, 2), "image": (8, 8, 4)},
]


@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_every_switch_keeps_the_shape_and_reaches_every_trainable_parameter(changes):
    model = tiny(Block(), **changes)
    logits = model(torch.randn(2, 2, *model.config.image))
    assert logits.shape == (2, 3, *model.config.image)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zeros at first, which give the other factor no gradient
            torch.nn.init.ones_(parameter)
    model(torch.randn(2, 2, *model.config.image)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == parameter.requires_grad, name
        assert parameter.requires_grad != (".block." in name or ".base_layer." in name), name


def test_arms_share_the_initial_values_of_all_that_they_share():
    bare, plugged = tiny().state_dict(), tiny(Block()).state_dict()
    assert set(plugged) - set(bare) and all(name.startswith("adapters.") for name in set(plugged) - set(bare))
    assert all(torch.equal(bare[name], plugged[name]) for name in bare)


@pytest.mark.parametrize("placement", CHOICES["placement"])
def test_the_block_changes_the_prediction(placement):
    image = torch.randn(1, 2, 8, 8, 8)
    assert not torch.allclose(tiny()(image), tiny(Block(), placement=placement)(image))


@pytest.mark.parametrize("mapper_lora", [0, 2])
def test_two_blocks_stand_each_at_its_own_place(mapper_lora):
    changes = {"placement": "before+after", "mapper_lora": mapper_lora}
    torch.manual_seed(1)
    one, other, image = Block(), Block(), torch.randn(1, 2, 8, 8, 8)
    same, apart = tiny(one, **changes), tiny({"before": one, "after": one}, **changes)
    assert torch.equal(same(image), apart(image))
    both = tiny({"after": other, "before": one}, **changes)
    assert both.adapters["before"].block is one and both.adapters["after"].block is other
    assert not torch.equal(both(image), same(image))
    assert not torch.equal(both(image), tiny({"before": other, "after": one}, **changes)(image))
    count = [sum(p.numel() for p in model.parameters()) for model in (same, both)]
    assert count[1] - count[0] == sum(p.numel() for p in other.parameters())


def test_blocks_for_other_places_are_refused():
    with pytest.raises(ValueError, match=r"blocks are given for middle; model.placement is 'middle\+after'"):
        tiny({"middle": Block()}, placement="middle+after")
    with pytest.raises(ValueError, match=r"blocks are given for middle, after; model.placement is 'after'"):
        tiny({"middle": Block(), "after": Block()})


@pytest.mark.parametrize("stem", CHOICES["stem"])
@pytest.mark.parametrize("decoder", CHOICES["decoder"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointing_changes_no_number(dropout, decoder, stem):
    image, block, gradients = torch.randn(2, 2, 8, 8, 8), Block(), []
    for checkpointing in (False, True):
        model = tiny(block, dropout=dropout, decoder=decoder, stem=stem)
        model.checkpointing = checkpointing
        torch.manual_seed(1)
        logits = model(image)
        logits.square().mean().backward()
        gradients.append({"logits": logits} | {n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("stem", CHOICES["stem"])
def test_checkpointing_keeps_no_activation_of_what_it_computes_again(stem):
    model, ran = tiny(decoder="skip", stem=stem), []
    parts = [part for part in model.modules() if isinstance(part, (Convs, EncoderBlock))]
    for number, part in enumerate(parts):
        part.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    model.checkpointing = True
    loss = model(torch.randn(1, 2, 8, 8, 8)).square().mean()
    assert sorted(ran) == list(range(len(parts)))
    loss.backward()
    assert sorted(ran) == sorted([*range(len(parts))] * 2)
    with torch.no_grad():
        model(torch.randn(1, 2, 8, 8, 8))
    assert len(ran) == 3 * len(parts)


def test_parameters_are_those_counted_by_hand():
    w, patch, channels, classes, tokens = 16, 64, 2, 3, 8
    embed = channels * patch * w + w + tokens * w
    block = 2 * 2 * w + (3 * w * w + 3 * w) + (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w)
    decoder = w * classes * patch + classes * patch
    model = tiny(attention="global", fusion="none", decoder="linear")
    assert sum(p.numel() for p in model.parameters()) == embed + 2 * block + 2 * w + decoder
    hybrid = tiny(attention="hybrid", fusion="none", decoder="linear")
    local = 27 * w + w + w * w + w
    assert sum(p.numel() for p in hybrid.parameters()) == embed + 2 * (block + local) + 2 * w + decoder


def test_it_equals_a_plain_reference():
    model = tiny(Block(), attention="global", fusion="none", decoder="linear").eval()
    image = torch.randn(1, 2, 8, 8, 8)
    parts = dict(model.named_parameters())

    def linear(x, name):
        return x @ parts[f"{name}.weight"].T + parts[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], parts[f"{name}.weight"], parts[f"{name}.bias"])

    corners = [(x, y, z) for x in (0, 4) for y in (0, 4) for z in (0, 4)]
    patches = torch.stack([image[0, :, x : x + 4, y : y + 4, z : z + 4].reshape(-1) for x, y, z in corners])
    x = linear(patches, "embed.project") + parts["embed.position_1DUVW"].reshape(16, 8).T
    for i in range(2):
        q, k, v = linear(norm(x, f"encoder.{i}.norm_attention"), f"encoder.{i}.attention.qkv").chunk(3, dim=-1)
        heads = [torch.softmax(q[:, h] @ k[:, h].T / 8**0.5, dim=-1) @ v[:, h] for h in (slice(0, 8), slice(8, 16))]
        x = x + linear(torch.cat(heads, dim=-1), f"encoder.{i}.attention.out")
        hidden = F.gelu(linear(norm(x, f"encoder.{i}.norm_mlp"), f"encoder.{i}.mlp.0"))
        x = x + linear(hidden, f"encoder.{i}.mlp.2")
    inner = linear(norm(x, "adapters.after.norm_in"), "adapters.after.map_in")
    inner = inner + torch.tanh(linear(inner, "adapters.after.block.map"))
    x = norm(x + linear(norm(inner, "adapters.after.norm_out"), "adapters.after.map_out"), "fusion.norm")
    flat = x @ parts["decoder.map.weight"].flatten(1).T + parts["decoder.map.bias"]
    expected = torch.zeros(1, 3, 8, 8, 8)
    for (a, b, c), token in zip(corners, flat, strict=True):
        expected[0, :, a : a + 4, b : b + 4, c : c + 4] = token.reshape(3, 4, 4, 4)
    torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-5)


@given(st.tuples(*[st.sampled_from([1, 2, 3, 4, 6, 8, 16])] * 3))
def test_upsampling_steps_undo_the_patch(patch):
    steps = upsampling_steps(patch)
    for axis in range(3):
        product = 1
        for step in steps:
            product *= step[axis]
        assert product == patch[axis]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 15}, "model.width: 15 is not divisible by model.heads 2"),
        ({"attention": "local"}, "model.attention: unknown value 'local'; known: global, hybrid"),
        ({"patch": (4, 4)}, "model.patch"),
        ({"classes": 1}, "no foreground"),
        ({"dropout": 1.0}, "model.dropout"),
    ],
)
def test_settings_are_checked_when_they_are_made(changes, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        SegmenterConfig(**({"channels": 1, "classes": 2} | TINY | changes))


def test_loss_is_low_for_the_right_answer_and_splits_over_workers():
    label = torch.randint(0, 3, (4, 6, 6, 6), generator=torch.Generator().manual_seed(0))
    right = 20.0 * F.one_hot(label, 3).movedim(-1, 1).float()
    assert dice_ce_loss(right, label) < 1e-3 < 1.5 < dice_ce_loss(-right, label)
    logits = torch.randn(4, 3, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    halves = (dice_ce_loss(logits[:2], label[:2]) + dice_ce_loss(logits[2:], label[2:])) / 2
    torch.testing.assert_close(dice_ce_loss(logits, label), halves)


def test_batch_dice_counts_by_class():
    label = torch.tensor([[[[0, 1, 1, 2]]]])
    hit, size = batch_dice(F.one_hot(torch.tensor([[[[0, 1, 2, 2]]]]), 3).movedim(-1, 1).float(), label)
    assert hit.tolist() == [2, 2] and size.tolist() == [3, 3]


@given(st.lists(st.tuples(*[st.integers(1, 90)] * 3), min_size=1, max_size=4))
def test_a_fitted_crop_is_no_larger_than_asked_and_than_the_volumes(shapes):
    config = SegmenterConfig(1, 2, image=(32, 32, 16), patch=(4, 4, 2))
    fitted = config.fitted(shapes)
    largest = [max(sides) for sides in zip(*shapes, strict=True)]
    for side, patch, volume in zip(fitted.image, config.patch, largest, strict=True):
        assert side % patch == 0
        assert side < volume + patch
    assert fitted.image[0] * fitted.image[1] * fitted.image[2] <= 32 * 32 * 16


def test_a_short_side_lengthens_the_others():
    config = SegmenterConfig(1, 2, image=(32, 32, 32), patch=(4, 4, 4))
    assert config.fitted([(122, 101, 12)]).image == (52, 52, 12)
    assert config.fitted([(94, 75, 9)]).image == (64, 64, 8)  # and not 12 with three of padding
    assert config.fitted([(94, 75, 7)]).image == (64, 64, 8) and config.fitted([(94, 75, 1)]).image == (88, 76, 4)
    assert config.fitted([(48, 48, 48)]).image == (32, 32, 32)
    assert config.fitted([(20, 20, 20)]).image == (20, 20, 20)
