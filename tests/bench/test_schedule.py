"""Optimizers and learning rates: warm-up, cosine, and plateaus of the training loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.presets import PRESETS, resolve
from bench.schedule import Schedule, make_optimizer
from bench.settings import TrainSettings, train_settings


def test_the_cosine_warms_up_and_falls_to_zero():
    schedule = Schedule(TrainSettings(steps=100, warmup=0.1))
    rates = [schedule.rate(step / 100) for step in range(111)]
    assert rates[0] == 0 and rates[5] == pytest.approx(0.5) and max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[100:] == pytest.approx([0.0] * 11)


@given(st.lists(st.floats(0.1, 10), max_size=60), st.integers(0, 5), st.sampled_from([0.1, 0.5]))
def test_the_plateau_is_that_of_torch(losses, patience, factor):
    model = nn.Linear(1, 1)
    theirs = torch.optim.Adam(model.parameters(), lr=2.0)
    watched = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=factor, patience=patience)
    ours = Schedule(TrainSettings(schedule="plateau", patience=patience, factor=factor, warmup=0.0))
    for loss in losses:
        watched.step(loss)
        ours.epoch_ended(loss)
        assert 2.0 * ours.rate(0.5) == pytest.approx(theirs.param_groups[0]["lr"], abs=2e-8)


def test_a_plateau_halves_the_rate_after_more_than_its_patience_and_an_improvement_does_not():
    schedule = Schedule(train_settings(resolve("paper", {})["train"]))
    for _ in range(11):
        schedule.epoch_ended(1.0)
    assert schedule.rate(0.3) == 1.0
    schedule.epoch_ended(1.0)
    assert schedule.rate(0.3) == schedule.rate(0.9) == 0.5
    falling = Schedule(train_settings(resolve("paper", {})["train"]))
    for epoch in range(50):
        falling.epoch_ended(1.0 - epoch / 100)
    assert falling.rate(1.0) == 1.0


def test_the_plateau_warms_up_too():
    schedule = Schedule(TrainSettings(schedule="plateau", warmup=0.5))
    assert [schedule.rate(share) for share in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_that_is_named(name, kind):
    made = make_optimizer(nn.Linear(2, 2).parameters(), TrainSettings(optimizer=name, lr=0.5, weight_decay=0.25))
    assert type(made) is kind
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": "sgd"}, "train.optimizer: unknown value 'sgd'; known: adamw, adam"),
        ({"schedule": "step"}, "train.schedule: unknown value 'step'; known: cosine, plateau"),
        ({"factor": 1.0}, "train.factor: 1.0 is not between 0 and 1"),
        ({"patience": -1}, "train.patience: -1 is below 0"),
    ],
)
def test_settings_are_checked(values, words):
    with pytest.raises(ValueError, match=words):
        TrainSettings(**values)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_field_of_a_preset_can_be_overridden(preset):
    others = {
        bool: lambda value: not value,
        int: lambda value: 2 * value or 3,
        float: lambda value: 0.75 * value or 0.5,
    }
    for group, values in PRESETS[preset].items():
        for name, value in values.items():
            if type(value) in others and name not in ("steps", "fusion_kernel"):
                wanted = others[type(value)](value)
                assert resolve(preset, {group: {name: str(wanted).lower()}})[group][name] == wanted
    found = resolve(
        preset, {"model": {"heads": "1", "image": "16,16,8", "fusion_kernel": "3"}, "train": {"steps": "7"}}
    )
    assert found["model"] | {"heads": 1, "image": (16, 16, 8), "fusion_kernel": 3} == found["model"]
    assert found["train"]["steps"] == 7 and found["train"]["budget"] == ""
