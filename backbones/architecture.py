"""From a row to the family's own transformers layer. Imported only where a block is built or checked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from backbones import registry
from backbones.errors import WeightsError
from backbones.family import DECISIVE
from backbones.spec import BackboneSpec


def _classes(spec: BackboneSpec) -> Any:
    return importlib.import_module(registry.family(spec).module)


def configuration(spec: BackboneSpec) -> Any:
    """The transformers configuration of the row."""
    family = registry.family(spec)
    return getattr(_classes(spec), family.configuration)(**spec.config, attn_implementation=family.attention)


def empty_layer(spec: BackboneSpec, layer: int) -> nn.Module:
    """Layer number `layer` of the model, on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        return getattr(_classes(spec), registry.family(spec).layer)(configuration(spec), layer)


def initialised_layer(spec: BackboneSpec, layer: int, seed: int) -> nn.Module:
    """The layer as the family initialises it, from this seed; the global random state stays as it was."""
    module = empty_layer(spec, layer).to_empty(device="cpu")
    owner = getattr(_classes(spec), registry.family(spec).model)(configuration(spec))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
        # Children before parents: GPT-2 gives its residual projections a smaller scale in a second pass.
        module.apply(owner._init_weights)
    forgotten = [name for name, parameter in module.named_parameters() if parameter.isnan().any()]
    assert not forgotten, f"{spec.family} does not initialise {forgotten}"
    return module


def shapes(spec: BackboneSpec, layer: int) -> dict[str, tuple[int, ...]]:
    """The block's tensors and their shapes."""
    return {name: tuple(tensor.shape) for name, tensor in empty_layer(spec, layer).state_dict().items()}


def check_config(spec: BackboneSpec, found: Mapping[str, Any], where: str) -> None:
    """WeightsError if a checkpoint's config.json describes another block than the row does.

    A configuration of text and images has the language model's settings under `text_config`.
    """
    ours = configuration(spec)
    settings = dict(found.get("text_config") or found)
    kind = settings.get("model_type", ours.model_type)
    if kind != ours.model_type:
        raise WeightsError(f"{where}: model_type is {kind!r}, but backbone {spec.name!r} is {ours.model_type!r}")
    try:
        theirs = type(ours).from_dict(settings)
    except (StrictDataclassError, TypeError, ValueError, KeyError) as error:
        raise WeightsError(f"{where}: not a configuration of {ours.model_type!r} ({error})") from error
    for key in DECISIVE:
        if getattr(ours, key, None) != getattr(theirs, key, None):
            raise WeightsError(
                f"{where}: {key} is {getattr(theirs, key, None)!r}, but backbone {spec.name!r} "
                f"has {getattr(ours, key, None)!r}; this is another model"
            )


class Positions:
    """The rotary embedding's cosines and sines for one layer. No module: a cast of the block must not round them."""

    def __init__(self, spec: BackboneSpec, layer: int, rotary: bool) -> None:
        family, config = registry.family(spec), configuration(spec)
        if rotary and not family.rotary:
            raise ValueError(f"backbone {spec.name!r} has no rotary embedding: leave rotary off")
        self.head_dim = family.shape(spec.config).head_dim
        self.rotary = getattr(_classes(spec), family.rotary)(config) if rotary else None
        self.extra: dict[str, str] = {}
        if self.rotary is not None and "layer_type" in inspect.signature(self.rotary.forward).parameters:
            self.extra = {"layer_type": config.layer_types[layer]}

    def __call__(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each of shape (1, N, head_dim); ones and zeros where the rotary embedding is off."""
        tokens = x_BND.shape[1]
        if self.rotary is None:
            return x_BND.new_ones(1, tokens, self.head_dim), x_BND.new_zeros(1, tokens, self.head_dim)
        return self.rotary(x_BND, torch.arange(tokens, device=x_BND.device)[None], **self.extra)
