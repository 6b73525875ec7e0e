"""Each preset: its parameters, counted by hand from its sizes; and that it learns one case by heart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.data.phantom import draw_case
from bench.data.tasks import DECATHLON
from bench.presets import PRESETS, resolve
from bench.schedule import Schedule, make_optimizer
from bench.settings import train_settings
from mvl.config import SegmenterConfig
from mvl.loss import batch_dice, dice_ce_loss
from mvl.model import Segmenter
from tests.mvl.test_segmenter import Block

RECIPE = next(task for task in DECATHLON if task.name == "Task09_Spleen")


def by_hand(preset: str, channels: int, classes: int, block: int) -> int:
    """Trainable parameters of a preset with a frozen block of this width, from its sizes alone."""
    m = PRESETS[preset]["model"]
    w, patch = m["width"], math.prod(m["patch"])
    tokens = math.prod(side // step for side, step in zip(m["image"], m["patch"], strict=True))
    hidden = int(w * m["mlp_ratio"])
    embed = channels * patch * w + w + tokens * w
    attention = (w * 3 * w + 3 * w) + (w * w + w)
    hybrid = (27 * w + w) + (w * w + w)  # depthwise 3x3x3 and gate
    mlp = (w * hidden + hidden) + (hidden * w + w)
    encoder = m["depth"] * (4 * w + attention + hybrid + mlp)
    fusion = 2 * 2 * w + (2 * w * w + w) + 2 * (m["fusion_kernel"] ** 3 * w * w + w)  # two depths joined, two scales
    norms = 2 * w + 2 * block
    rank = m["mapper_lora"]
    mappers = 2 * rank * (w + block) if rank else (w * block + block) + (block * w + w)
    return embed + encoder + fusion + norms + mappers + skips_and_decoder(m, channels, classes)


def skips_and_decoder(m: dict, channels: int, classes: int) -> int:
    w, depth, patch = m["width"], m["decoder_depth"], math.prod(m["patch"])
    if m["decoder"] == m["stem"] == "linear":
        return w * classes * patch + classes * patch
    assert m["decoder"] == "subpixel"
    levels = int(math.log2(m["patch"][0])) - 1  # patches are cubes of a power of two; the head has the last
    fine = [min(w, 2 * m["decoder_width"] * 2**level) for level in range(levels)]
    skips, falls = sum(convolutions(8 * channels, width, depth) for width in fine), 0
    if m["stem"] == "conv":
        skips = convolutions(8 * channels, fine[0], depth) + sum(
            convolutions(width, width, depth) for width in fine[1:]
        )
        falls = sum(8 * a * b + b for a, b in zip(fine, [*fine[1:], w], strict=True))
    maps = sum(a * b + b for a, b in zip([w, *fine[:0:-1]], fine[::-1], strict=True))
    mixes = sum(convolutions(width, width, depth) for width in fine)
    return skips + falls + maps + mixes + fine[0] * classes * 8 + classes * 8


def convolutions(inside: int, outside: int, count: int) -> int:
    """3x3x3 without bias, each with an instance norm."""
    return 27 * inside * outside + (count - 1) * 27 * outside**2 + count * 2 * outside


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 4)])
@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_those_counted_by_hand(preset, channels, classes):
    config = SegmenterConfig.of(resolve(preset, {})["model"] | {"channels": channels, "classes": classes})
    with torch.device("meta"):
        model = Segmenter(config, Block(576))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == by_hand(preset, channels, classes, 576)


def test_the_paper_is_the_papers():
    paper = resolve("paper", {})
    sizes = {"width": 64, "depth": 16, "heads": 4, "dropout": 0.2, "image": (128,) * 3, "patch": (8,) * 3}
    assert (
        paper["model"] | sizes | {"fusion_kernel": 1, "stem": "linear", "decoder": "linear", "mapper_lora": 4}
        == paper["model"]
    )
    training = {"optimizer": "adam", "schedule": "plateau", "factor": 0.5, "patience": 10, "lr": 2e-3, "batch": 4}
    assert paper["train"] | training | {"budget": "100 epochs"} == paper["train"]
    assert train_settings(paper["train"]).for_cases(20).steps == 500


def one_case() -> tuple[torch.Tensor, torch.Tensor]:
    """The middle of a phantom spleen: image (1, 1, 24, 24, 24), label (1, 24, 24, 24)."""
    image, label = (np.asanyarray(part.dataobj) for part in draw_case(RECIPE, 0))
    centre = np.argwhere(label > 0).mean(0)
    first = [int(min(max(at - 12, 0), side - 24)) for at, side in zip(centre, label.shape, strict=True)]
    box = tuple(slice(low, low + 24) for low in first)
    scaled = (image - image.mean()) / image.std()
    return torch.from_numpy(scaled[box]).float()[None, None], torch.from_numpy(label[box]).long()[None]


@pytest.mark.parametrize(
    ("preset", "width", "steps"),
    [("cpu", 32, 60), pytest.param("default", 64, 200, marks=pytest.mark.slow),
     pytest.param("paper", 64, 200, marks=pytest.mark.slow)],
)  # fmt: skip
def test_one_phantom_case_is_learned_by_heart(preset, width, steps):
    """With the preset's switches, optimizer and schedule, at a size that trains in seconds."""
    small = {"image": (24,) * 3, "patch": (4,) * 3, "width": width, "depth": 2, "heads": 2, "dropout": 0.0}
    settings = resolve(preset, {"model": small, "train": {"steps": steps, "lr": 1e-2, "precision": "fp32"}})
    train = train_settings(settings["train"])
    torch.manual_seed(0)
    model = Segmenter(SegmenterConfig.of(settings["model"] | {"channels": 1, "classes": 2}))
    optimizer, schedule, (image, label) = make_optimizer(model.parameters(), train), Schedule(train), one_case()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = train.lr * schedule.rate((step + 0.5) / steps)
        optimizer.zero_grad()
        loss = dice_ce_loss(model(image), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip)
        optimizer.step()
        schedule.epoch_ended(loss.item())
    with torch.no_grad():
        hit, size = batch_dice(model.eval()(image), label)
    assert float(hit / size) > 0.95
