"""From a row to the family's own transformers layer. Imported only where a block is built or checked."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from backbones import registry
from backbones.errors import WeightsError
from backbones.family import DECISIVE
from backbones.spec import BackboneSpec


def classes(spec: BackboneSpec) -> Any:
    """The transformers module of the row's family."""
    return importlib.import_module(registry.family(spec).module)


def configuration(spec: BackboneSpec) -> Any:
    """The transformers configuration of the row, the caller's own to change."""
    return _made(*_key(spec))


# Configurations and empty layers take longer to make than a mapped block takes to read, so one is kept for our own use.
Key = tuple[str, str]


def _key(spec: BackboneSpec) -> Key:
    """What a configuration depends on. As text: configurations change tables that they are given, and keep this one."""
    return spec.family, json.dumps(dict(spec.config), sort_keys=True)


def _made(name: str, settings: str) -> Any:
    family = registry.family_named(name)
    made = getattr(importlib.import_module(family.module), family.configuration)
    return made(**json.loads(settings), attn_implementation=family.attention)


_configuration = lru_cache(maxsize=256)(_made)


def empty_layer(spec: BackboneSpec, layer: int) -> nn.Module:
    """Layer number `layer` of the model, on the meta device: names and shapes, no memory."""
    return _empty_layer(_key(spec), layer)


def _empty_layer(key: Key, layer: int) -> nn.Module:
    family = registry.family_named(key[0])
    with torch.device("meta"):
        module: nn.Module = getattr(importlib.import_module(family.module), family.layer)(_configuration(*key), layer)
    # No checkpoint would fill one, and it would stay on the meta device.
    assert not list(module.buffers()), f"the layer of {family.name} has buffers"
    return module


def initialised_layer(spec: BackboneSpec, layer: int, seed: int) -> nn.Module:
    """The layer as the family initialises it, from this seed; the global random state stays as it was."""
    module = empty_layer(spec, layer).to_empty(device="cpu")
    owner = getattr(classes(spec), registry.family(spec).model)(configuration(spec))
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
    return dict(_shapes(_key(spec), layer))


@lru_cache(maxsize=256)
def _shapes(key: Key, layer: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in _empty_layer(key, layer).state_dict().items()}


def check_config(spec: BackboneSpec, found: Mapping[str, Any], where: str) -> None:
    """WeightsError if a checkpoint's config.json describes another block than the row does.

    A configuration of text and images has the language model's settings under `text_config`.
    """
    ours = _configuration(*_key(spec))
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
