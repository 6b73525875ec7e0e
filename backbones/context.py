"""What a layer is given beside its tokens: who sees whom, and where each token stands."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from backbones import architecture, registry
from backbones.spec import BackboneSpec, BlockOptions

Key = tuple[int, torch.dtype, torch.device]


class Positions:
    """The rotary embedding's cosines and sines for one layer. No module: a cast of the block must not round them."""

    def __init__(self, spec: BackboneSpec, layer: int, rotary: bool) -> None:
        family, config = registry.family(spec), architecture.configuration(spec)
        if rotary and not registry.has_rotary(spec):
            raise ValueError(f"backbone {spec.name!r} has no rotary embedding: leave rotary off")
        share = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
        self.turned = int(family.shape(spec.config).head_dim * share)
        self.rotary = getattr(architecture.classes(spec), family.rotary)(config) if rotary else None
        self.extra: dict[str, str] = {}
        if self.rotary is not None and "layer_type" in inspect.signature(self.rotary.forward).parameters:
            self.extra = {"layer_type": config.layer_types[layer]}

    def __call__(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each as wide as the turned part of a head: (1, N, W); ones and zeros where rotary is off."""
        tokens = x_BND.shape[1]
        if self.rotary is None:
            return x_BND.new_ones(1, tokens, self.turned), x_BND.new_zeros(1, tokens, self.turned)
        return self.rotary(x_BND, torch.arange(tokens, device=x_BND.device)[None], **self.extra)


def _set_causal(module: nn.Module, causal: bool) -> bool:
    """Tell every attention in the layer whether it is causal; True if there was one to tell."""
    attentions = [part for part in module.modules() if hasattr(part, "is_causal")]
    for part in attentions:
        part.is_causal = causal  # type: ignore[assignment]
    return bool(attentions)


class Context:
    """The keyword arguments of a layer's forward, made once for a number of tokens and then kept.

    transformers' SDPA takes no mask as "do as is_causal says", and is fastest so. Its eager attention takes no mask as
    "all see all", whatever is_causal says. So the first is told, and all others get a mask.
    """

    def __init__(self, spec: BackboneSpec, layer: int, module: nn.Module, options: BlockOptions) -> None:
        parameters = inspect.signature(module.forward).parameters
        told = _set_causal(module, options.causal)
        self.causal = options.causal
        self.masked = not told or registry.family(spec).attention != "sdpa"
        positions = Positions(spec, layer, options.rotary)
        self.positions = positions if "position_embeddings" in parameters else None
        # Falcon must be given what it may do without.
        required = [
            name
            for name, each in parameters.items()
            if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
        ]
        self.fixed: dict[str, None] = dict.fromkeys([*required[1:], "attention_mask"])
        self._kept: tuple[Key, dict[str, Any]] | None = None

    def __call__(self, x_BND: Tensor) -> dict[str, Any]:
        """The arguments for tokens of this number, dtype and device."""
        key = (x_BND.shape[1], x_BND.dtype, x_BND.device)
        if self._kept is None or self._kept[0] != key:
            # What inference mode makes could not be used in training afterwards.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (key, self._make(x_BND.detach()))
        return self._kept[1]

    def _make(self, x_BND: Tensor) -> dict[str, Any]:
        made: dict[str, Any] = dict(self.fixed)
        if self.masked:
            made["attention_mask"] = self._mask(x_BND)
        if self.positions is not None:
            made["position_embeddings"] = self.positions(x_BND)
        return made

    def _mask(self, x_BND: Tensor) -> Tensor:
        """What is added to the scores: a zero that spreads to all of them, or (1, 1, N, N) with the future shut."""
        if not self.causal:
            return x_BND.new_zeros(1, 1, 1, 1)
        tokens = x_BND.shape[1]
        return x_BND.new_full((1, 1, tokens, tokens), -torch.inf).triu(1)
