"""How much a trial has to compute, from its specification and the sizes of its images. No torch, but for references."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

import backbones
from bench.data.check import TaskCheck
from bench.data.preparation import coarsen
from bench.settings import train_settings
from bench.trial import TrialJob
from mvl import work
from mvl.config import SegmenterConfig, Size3
from results.record import TrialSpec

#: Passes that a training step makes of what is trained: forward, gradient of the input, gradient of the weights. Of
#: what is frozen it makes two.
_TRAINED, _FROZEN = 3, 2


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one training step and of all scoring; steps is 0 where wall time decides.

    native is the number of voxels of all held-out images as they lie on disk, which distances are computed on.
    """

    step: int
    steps: int
    scoring: int
    native: int

    @property
    def total(self) -> int:
        return self.step * self.steps + self.scoring


def of_trial(job: TrialJob, check: TaskCheck) -> Work:
    """The work of a trial on a task whose images were looked at. Content boxes are not: it is an upper estimate."""
    spec, info = job.spec, job.info
    shape, native = _shapes(check, int(spec.data["max_voxels"]))
    settings = train_settings(spec.train).for_cases(info.training_cases)
    config = SegmenterConfig.of(_sizes(spec.model)).fitted([shape])
    forward, training = _passes(job, config)
    windows = math.prod(map(functools.partial(_windows, overlap=spec.data["overlap"]), shape, config.image))
    copies = 2 ** len(spec.data["mirror"])
    return Work(
        step=settings.batch * training,
        steps=0 if settings.seconds else settings.steps,
        scoring=info.held_out_cases * windows * copies * forward,
        native=info.held_out_cases * native,
    )


def _shapes(check: TaskCheck, max_voxels: int) -> tuple[Size3, int]:
    """The median image as it will be prepared, without its crop to content; and the voxels of the median image."""
    spacings, shapes = list(check.spacings.values()), list(check.shapes.values())
    spacing = np.median(spacings, axis=0)
    extent = np.median(np.array(shapes) * np.array(spacings), axis=0)
    target = coarsen(spacing, extent, max_voxels) if max_voxels else spacing
    x, y, z = np.maximum(1, np.round(extent / target)).astype(int).tolist()
    return (x, y, z), int(median(math.prod(one) for one in shapes))


def _windows(side: int, width: int, overlap: float) -> int:
    """How many windows `bench.windows.starts` lays along one axis."""
    step = max(1, int(width * (1 - overlap)))
    return max(0, math.ceil((side - width) / step)) + 1


def _passes(job: TrialJob, config: SegmenterConfig) -> tuple[int, int]:
    """(operations of a forward pass over one crop, of a training step over it)."""
    spec, width = job.spec, job.spec.block.get("width", 0)
    if spec.control == "reference":
        forward = _reference(spec.backbone, json.dumps(dict(spec.model)), config.image)
        return forward, _TRAINED * forward
    trained, frozen = work.forward(config), 0
    if spec.control in ("mlp", "depth"):
        trained += work.matched(config, width)
    elif spec.control != "none":
        trained += work.mappers(config, width)
    if (parameters := _parameters(job)) and spec.control == "trainable":
        trained += work.block(config, width, parameters)
    elif parameters:
        frozen = work.block(config, width, parameters)
    return trained + frozen, _TRAINED * trained + _FROZEN * frozen


def block_parameters(job: TrialJob) -> int:
    """Parameters of the LLM's block, or two, that stand in the arm: none in the baseline and controls of capacity."""
    return _parameters(job) * (2 if "second_layer" in job.spec.block else 1)


def _parameters(job: TrialJob) -> int:
    """Of one block: every layer of a model has as many."""
    if job.backbone is None or job.spec.control in ("identity", "mlp", "depth"):
        return 0
    spec = backbones.stand_in(job.backbone) if job.spec.control == "stand-in" else job.backbone
    return backbones.block_parameters(spec)


@functools.cache
def _reference(name: str, model: str, image: Size3) -> int:
    """A reference model's forward pass over one crop, as torch counts it on tensors without content."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mvl import references

    settings: Mapping[str, Any] = json.loads(model)
    config = SegmenterConfig.of(_sizes(settings) | {"image": image})
    # Built with content: MONAI's SwinUNETR reads values of tensors as it is built.
    net = references.build(name, config, settings["features"]).eval().to("meta")
    crop = torch.zeros(1, config.channels, *image, device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(crop)
    return int(counter.get_total_flops())


def _sizes(model: Mapping[str, Any]) -> dict[str, Any]:
    """The segmenter's settings among those of a specification; features are a reference model's own."""
    return {name: value for name, value in model.items() if name != "features"}


def effort(spec: TrialSpec) -> tuple[Any, ...]:
    """Trials of one task and arm that agree in this cost the same."""
    return tuple(spec.train.get(name) for name in ("steps", "budget", "batch", "precision", "augment"))
