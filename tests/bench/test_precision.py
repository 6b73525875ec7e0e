"""Training under autocast, on whatever device is here: bf16 and fp16 learn as fp32 does, and fp16 scales its loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench import engine
from bench.presets import TrainSettings
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
    exact, found = losses(started("fp32")), losses(started(precision))
    assert found != exact and found == pytest.approx(exact, rel=0.05)
    assert found[-1] < 0.9 * found[0]


def test_a_loss_scale_that_overflows_costs_a_step_and_is_halved():
    one = started("fp16")
    scaler = one.torch_autocast_z0_gradscaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**24})
    found = losses(one)
    assert 1 < scaler.get_scale() < 2.0**24
    assert found[-1] < found[0] and all(p.isfinite().all() for p in one.module.parameters())
