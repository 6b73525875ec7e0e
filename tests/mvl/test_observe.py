"""Energies, entropy and amplification of known tokens, attention and blocks; nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mvl.attention import GlobalAttention
from mvl.observe import can_observe, energy, entropy, observed
from tests.mvl.test_segmenter import tiny


class Times(nn.Module):
    """A block that multiplies its tokens."""

    width = 12

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def test_energy_is_the_mean_magnitude_of_a_token_on_its_place_of_the_grid():
    x_BND = torch.tensor([[[1.0, -3.0], [0.0, 0.0], [2.0, 2.0], [-5.0, 1.0], [1.0, 1.0], [0.5, -0.5]]])
    expected = torch.tensor([[[[2.0, 0.0, 2.0]], [[3.0, 1.0, 0.5]]]])
    torch.testing.assert_close(energy(x_BND, (2, 1, 3)), expected)


def test_the_entropy_of_even_attention_is_one_and_of_a_single_token_zero():
    attention = GlobalAttention(8, 2, 0.0)
    x_BND = torch.randn(2, 6, 8)
    attention.qkv.weight.data.zero_()
    attention.qkv.bias.data.zero_()
    assert entropy(attention.qkv(x_BND), 2) == pytest.approx(1.0)
    torch.nn.init.eye_(attention.qkv.weight[:8].detach())
    torch.nn.init.eye_(attention.qkv.weight[8:16].detach())
    own = 100 * torch.eye(8)[None, :6]
    assert entropy(attention.qkv(own), 2) < 0.5  # each token looks at itself, but for the head in which it is nothing
    assert entropy(attention.qkv(x_BND[:, :1]), 2) == 0.0


def test_the_entropy_of_attention_is_that_of_its_softmax():
    attention, x_BND = GlobalAttention(8, 2, 0.0), torch.randn(1, 300, 8)
    q, k, _ = attention.qkv(x_BND)[0].chunk(3, dim=-1)
    chosen = torch.linspace(0, 299, 256).long()
    values = list[torch.Tensor]()
    for head in (slice(0, 4), slice(4, 8)):
        p = torch.softmax(q[chosen][:, head] @ k[:, head].T / 2.0, dim=-1)
        values.append(torch.special.entr(p).sum(-1).mean() / torch.log(torch.tensor(300.0)))
    assert entropy(attention.qkv(x_BND), 2) == pytest.approx(torch.stack(values).mean().item(), rel=1e-4)


@pytest.mark.parametrize("factor", [0.5, 3.0])
@pytest.mark.parametrize("placement", ["before", "middle", "after", "middle+after"])
def test_a_block_is_seen_where_it_stands(factor, placement):
    model, image = tiny(Times(factor), placement=placement).eval(), torch.randn(2, 2, 8, 8, 8)
    places = placement.count("+") + 1
    with observed(model) as passes:
        model(torch.zeros_like(image))
        model(image)
    first, seen = passes
    assert not torch.equal(first.energy["encoder"], seen.energy["encoder"])
    assert seen.amplification == pytest.approx([factor] * places)
    assert len(seen.entropy) == 2 and all(0 < value <= 1 for value in seen.entropy)
    second = {"before2", "block2"} if places == 2 else set()
    assert set(seen.energy) == {"before", "block", "encoder"} | second
    assert all(value.shape == (2, 2, 2, 2) for value in seen.energy.values())
    if placement == "after":
        assert torch.equal(seen.energy["before"], seen.energy["encoder"])


def test_two_blocks_are_each_seen_at_their_place():
    model = tiny({"middle": Times(2.0), "after": Times(5.0)}, placement="middle+after").eval()
    with observed(model) as passes:
        model(torch.randn(1, 2, 8, 8, 8))
    assert passes[0].amplification == pytest.approx([2.0, 5.0])


def test_looking_changes_nothing_and_leaves_nothing():
    model, image = tiny(Times(2.0)).eval(), torch.randn(1, 2, 8, 8, 8)
    before = model(image)
    with observed(model) as passes:
        assert torch.equal(model(image), before)
    model(torch.randn(1, 2, 8, 8, 8))
    assert len(passes) == 1
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_the_baseline_has_no_block_to_look_at():
    model = tiny().eval()
    with observed(model) as passes:
        model(torch.randn(1, 2, 8, 8, 8))
    (seen,) = passes
    assert set(seen.energy) == {"encoder"} and seen.amplification == []
    assert can_observe(model) and not can_observe(nn.Linear(1, 1))
