"""The segmenter's work, counted from its settings, against what torch counts as the model runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mvl import work
from mvl.config import CHOICES, SegmenterConfig
from mvl.matched import Matched
from mvl.model import Segmenter

CONFIGS = st.builds(
    SegmenterConfig,
    channels=st.integers(1, 4),
    classes=st.integers(2, 5),
    image=st.tuples(*[st.sampled_from([8, 13, 24])] * 3),
    patch=st.tuples(*[st.sampled_from([2, 3, 4, 8])] * 3),
    width=st.sampled_from([8, 24]),
    depth=st.integers(1, 4),
    heads=st.sampled_from([1, 2]),
    mlp_ratio=st.sampled_from([2.0, 4.0]),
    attention=st.sampled_from(CHOICES["attention"]),
    fusion=st.sampled_from(CHOICES["fusion"]),
    decoder=st.sampled_from(CHOICES["decoder"]),
    decoder_width=st.sampled_from([4, 16]),
    decoder_depth=st.integers(1, 3),
    stem=st.sampled_from(CHOICES["stem"]),
    fusion_kernel=st.sampled_from(CHOICES["fusion_kernel"]),
    placement=st.sampled_from(CHOICES["placement"]),
)


class Block(torch.nn.Module):
    """A block that is one square product."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.map = torch.nn.Linear(width, width, bias=False)

    def forward(self, x_BNL: torch.Tensor) -> torch.Tensor:
        return self.map(x_BNL)


def counted(config: SegmenterConfig, **parts) -> int:
    with torch.device("meta"):
        model = Segmenter(config, **parts).eval()
        image = torch.zeros(1, config.channels, *config.image)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(image)
    return counter.get_total_flops()


@settings(max_examples=60)
@given(CONFIGS)
def test_the_baseline_takes_what_torch_counts(config):
    assert work.forward(config) == counted(config)


@settings(max_examples=20)
@given(CONFIGS, st.integers(4, 40))
def test_a_block_adds_its_mappers_and_itself(config, width):
    with torch.device("meta"):
        whole = counted(config, block=Block(width))
    attention = len(config.places) * 4 * torch.tensor(config.grid).prod().item() ** 2 * width
    expected = work.forward(config) + work.mappers(config, width) + work.block(config, width, width**2) - attention
    assert whole == expected  # this block has no attention


@pytest.mark.parametrize("kind", ["mlp", "depth"])
def test_a_matched_control_is_told_to_a_quarter(kind):
    config = SegmenterConfig(1, 3, (32, 32, 32), (4, 4, 4), width=64)
    whole = counted(config, matched=Matched(kind, 512))
    assert work.forward(config) + work.matched(config, 512) == pytest.approx(whole, rel=0.25)
