"""The block that a segmenter carries: (B, N, D) -> (B, N, D), frozen or to be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones import architecture
from backbones.context import Context
from backbones.errors import WeightsError
from backbones.spec import BackboneSpec, BlockOptions

#: A block as MedVisionLlama has it.
DEFAULT = BlockOptions()

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Block(nn.Module):
    """One transformer layer, in eval mode for good: no dropout, whether it is trained or not. `width` is D.

    context gives the layer's other arguments for some tokens. checkpointing computes the layer again in the backward
    pass instead of keeping its activations.
    """

    def __init__(
        self, layer: nn.Module, width: int, context: Callable[[Tensor], dict[str, Any]], checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.layer = layer
        self.width = width
        self.context = context
        self.checkpointing = checkpointing
        self.train(False)

    def train(self, mode: bool = True) -> Block:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens in, tokens out, in the input's dtype; the block computes in its own."""
        h_BND = x_BND.to(next(self.layer.parameters()).dtype)
        arguments = self.context(h_BND)
        if self.checkpointing and torch.is_grad_enabled():
            out = checkpoint(self.layer, h_BND, **arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            out = self.layer(h_BND, **arguments)
        return (out[0] if isinstance(out, tuple) else out).to(x_BND.dtype)


class FrozenBlock(Block):
    """A block whose parameters take no gradient; its input does."""

    def __init__(
        self, layer: nn.Module, width: int, context: Callable[[Tensor], dict[str, Any]], checkpointing: bool = False
    ) -> None:
        super().__init__(layer, width, context, checkpointing)
        self.requires_grad_(False)


def trainable(block: FrozenBlock) -> Block:
    """The same block with every parameter to be trained. It takes over the layer: use the given one no more."""
    return Block(block.layer, block.width, block.context, block.checkpointing).requires_grad_(True)


def _frozen(spec: BackboneSpec, layer: int, module: nn.Module, options: BlockOptions) -> FrozenBlock:
    context = Context(spec, layer, module, options)
    return FrozenBlock(module.to(TORCH_DTYPES[options.dtype]), spec.width, context, options.checkpointing)


def from_tensors(
    spec: BackboneSpec, layer: int, tensors: Mapping[str, Tensor], options: BlockOptions = DEFAULT
) -> FrozenBlock:
    """The block with these parameters, all of them and no others; WeightsError otherwise."""
    module = architecture.empty_layer(spec, layer)
    try:
        module.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the tensors do not fit a block of {spec.name!r}: {error}") from error
    return _frozen(spec, layer, module, options)


def initialised(spec: BackboneSpec, layer: int, seed: int, options: BlockOptions = DEFAULT) -> FrozenBlock:
    """The block as its family initialises it before training, from this seed."""
    return _frozen(spec, layer, architecture.initialised_layer(spec, layer, seed), options)
