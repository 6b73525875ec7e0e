"""The frozen block that a segmenter carries: (B, N, D) -> (B, N, D)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backbones import architecture
from backbones.errors import WeightsError
from backbones.spec import BackboneSpec


class FrozenBlock(nn.Module):
    """One decoder layer, frozen, in eval mode for good, seen by every token from every token.

    Its parameters take no gradient; its input does. `width` is D.
    """

    def __init__(self, layer: nn.Module, width: int, positions: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.layer = layer
        self.width = width
        self._positions = positions
        self._wants_positions = "position_embeddings" in inspect.signature(layer.forward).parameters
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenBlock:
        """Stay in eval mode: a frozen block has no dropout."""
        return super().train(False)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens in, tokens out, in the input's dtype; the block computes in its own."""
        h_BND = x_BND.to(next(self.layer.parameters()).dtype)
        tokens = h_BND.shape[1]
        # Without a mask, attention would be causal. A mask of zeros hides nothing, whatever the kernel.
        options: dict[str, Any] = {"attention_mask": h_BND.new_zeros(1, 1, tokens, tokens)}
        if self._wants_positions:
            options["position_embeddings"] = self._positions(h_BND)
        out = self.layer(h_BND, **options)
        return (out[0] if isinstance(out, tuple) else out).to(x_BND.dtype)


def _frozen(spec: BackboneSpec, layer: int, module: nn.Module, rotary: bool, dtype: torch.dtype) -> FrozenBlock:
    return FrozenBlock(module.to(dtype), spec.width, architecture.Positions(spec, layer, rotary))


def from_tensors(
    spec: BackboneSpec,
    layer: int,
    tensors: Mapping[str, Tensor],
    rotary: bool = False,
    dtype: torch.dtype = torch.float32,
) -> FrozenBlock:
    """The block with these parameters, all of them and no others; WeightsError otherwise."""
    module = architecture.empty_layer(spec, layer)
    try:
        module.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the tensors do not fit a block of {spec.name!r}: {error}") from error
    return _frozen(spec, layer, module, rotary, dtype)


def initialised(
    spec: BackboneSpec, layer: int, seed: int, rotary: bool = False, dtype: torch.dtype = torch.float32
) -> FrozenBlock:
    """The block as its family initialises it before training, from this seed."""
    return _frozen(spec, layer, architecture.initialised_layer(spec, layer, seed), rotary, dtype)
