"""Training under autocast, on whatever device is here: bf16 and fp16 learn as fp32 does, and fp16 scales its loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bench import engine, thin_convolutions
from bench.settings import TrainSettings
from bench.train import train
from mvl.config import SegmenterConfig
from mvl.model import Segmenter
from tests.bench.test_engine import Block, Crops

SETTINGS = TrainSettings(steps=20, batch=2, epochs=4, lr=1e-3, warmup=0.0)


def started(precision: str) -> Any:
    engine.join()
    torch.manual_seed(0)
    config = SegmenterConfig(1, 2, (8, 8, 8), (4, 4, 4), width=16, depth=1, heads=2)
    return engine.start(Segmenter(config, Block()), replace(SETTINGS, precision=precision), workers=1)


def losses(one: Any) -> list[float]:
    course = train(one, Crops(), SETTINGS, 0, 1, lambda entry, share: None)
    return [entry["loss"] for entry in course.curve]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_as_fp32_does(precision):
    """Also in a process that has trained before; the grid of this crop is 2 x 2 x 2, where bf16 needs a guard."""
    exact = losses(started("fp32"))
    for found in (losses(started(precision)) for _ in range(5)):
        assert found != exact and found == pytest.approx(exact, rel=0.01)
        assert found[-1] < 0.9 * found[0]


@pytest.mark.parametrize("sides", [(2, 2, 2), (2, 4, 4), (1, 4, 4), (3, 3, 3), (4, 4, 2)])
@pytest.mark.parametrize("groups", [1, 16])
def test_gradients_of_a_convolution_over_a_thin_grid_are_those_of_fp32(sides, groups):
    conv = nn.Conv3d(16, 16, 3, padding=1, groups=groups)
    exact = gradients(conv, sides, torch.float32)
    thin_convolutions.guard(conv)
    found = gradients(conv, sides, torch.bfloat16)
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def gradients(conv: nn.Conv3d, sides: tuple[int, int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    """Of the input and the weights, with memory about that holds large numbers."""
    generator = torch.Generator().manual_seed(0)
    image, wanted = (torch.randn(2, 16, *sides, generator=generator) for _ in range(2))
    image.requires_grad_()
    conv.zero_grad()
    del [torch.full((500 + 101 * place,), 1e30) for place in range(20)][:]
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        made = conv(image)
    assert made.dtype == dtype
    made.float().backward(wanted)
    return [image.grad, conv.weight.grad.clone()]


def test_a_loss_scale_that_overflows_costs_a_step_and_is_halved():
    one = started("fp16")
    scaler = one.torch_autocast_z0_gradscaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**24})
    found = losses(one)
    assert 1 < scaler.get_scale() < 2.0**24
    assert found[-1] < found[0] and all(p.isfinite().all() for p in one.module.parameters())
