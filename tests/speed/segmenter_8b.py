"""The segmenter around a block of an 8B model: what a step leaves for frozen weights, and what checkpointing saves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.speed.harness import Reading, alternate, fresh, measurement, value
from tests.speed.segmenter_sides import STEP, Size, crop_of, give_back_at_once, our_loss, ours

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Checkpointing takes this share of a step's peak.
CUT = 0.30


def with_block(size: Size, row: str, checkpointing: bool) -> nn.Module:
    """The segmenter around a random block of this row's shape, as a trial builds it."""
    import backbones
    from backbones import block
    from backbones.spec import BlockOptions
    from mvl.model import Segmenter

    spec = backbones.get(row)
    made = block.initialised(spec, spec.layer, 0, BlockOptions(checkpointing=checkpointing))
    return Segmenter(size.config(), made, checkpointing=checkpointing)


def block_step(model: nn.Module, size: Size) -> torch.optim.Optimizer:
    """One training step as the engine makes it, of the preset's batch; returns the optimizer with its state."""
    from bench.presets import resolve
    from bench.schedule import make_optimizer
    from bench.settings import TrainSettings

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(trained, TrainSettings())
    image, label = crop_of(size.side, resolve("default", {})["train"]["batch"])
    our_loss(model(image), label).backward()
    optimizer.step()
    return optimizer


def held(tensors: Iterable[Tensor | None]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def frozen_bytes(size: Size, row: str) -> Reading:
    """Bytes of gradients and optimizer state that a step leaves for frozen weights, counted tensor by tensor."""
    import torch

    model = with_block(size, row, checkpointing=True)
    state = block_step(model, size).state
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def kept(parameters: list[Any]) -> int:
        states = [item for p in parameters for item in state.get(p, {}).values() if isinstance(item, torch.Tensor)]
        return held(p.grad for p in parameters) + held(states)

    if kept(trained) < 3 * held(trained):
        raise AssertionError("what is trained has a gradient and two moments; this count misses some")
    note = f"frozen weights: {held(frozen) / 1e6:.4g} MB; kept for {held(trained) / 1e6:.4g} MB of trained ones: "
    return Reading(kept(frozen), None, note + f"{kept(trained) / 1e6:.4g} MB", runs=1, exact=True)


@measurement(
    "segmenter-8b-frozen-bytes",
    "a step with a block of an 8B model leaves no gradient and no optimizer state for frozen weights",
    None,
    0,
    of="ours",
    unit="bytes",
)
def segmenter_8b_frozen_bytes(runs: int) -> Reading:
    return frozen_bytes(STEP, "llama3")


def block_step_peak(checkpointing: str, side: str, model: str, row: str) -> int:
    """In a process of its own: the peak of the first step, the model's own bytes among it but not the libraries'."""
    from tests.speed.weights import growth

    give_back_at_once()
    size = Size(int(side), model)
    tried = Size(16, json.dumps({"width": 16, "depth": 1, "heads": 1}))
    block_step(ours(tried.config()), tried)  # for the imports
    built = with_block(size, row, checkpointing == "on")
    return held([*built.parameters(), *built.buffers()]) + growth(lambda: block_step(built, size))


def checkpointing_reading(size: Size, row: str, runs: int) -> Reading:
    on, off = (
        partial(fresh, __name__, "block_step_peak", way, str(size.side), size.model, row) for way in ("on", "off")
    )
    mine, theirs = alternate(on, off, runs, gauge=value, warm=False)
    return Reading(mine, theirs, f"checkpointing cuts the step's peak by {1 - mine / theirs:.0%}")


@measurement(
    "segmenter-8b-checkpointing",
    "checkpointing cuts the peak of a step with that block by at least 30 %: the preset's batch, all weights included",
    "the same step without checkpointing",
    1 - CUT,
    unit="bytes",
)
def segmenter_8b_checkpointing(runs: int) -> Reading:
    return checkpointing_reading(STEP, "llama3", runs)
