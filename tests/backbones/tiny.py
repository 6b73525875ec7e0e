"""Tiny models of every family: their tensors, and the files that they come in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel

import backbones
from backbones import architecture, block, controls, falcon, family, gemma, gpt2, registry
from backbones.family import Shape
from backbones.spec import BackboneSpec, BlockOptions

VOCABULARY = 32

#: A row of every family, and those whose block differs in kind from it: enough for what does not depend on sizes.
REPRESENTATIVES = (
    "bert-base",
    "biogpt",
    "falcon-7b",
    "gemma2-9b",
    "gemma3-1b",  # its last layer has the rotary embedding of a window
    "gemma3-270m",
    "gpt2",
    "llama3",
    "mistral",
    "opt-125m",
    "opt-350m",  # norms come last
    "phi3-mini",
    "pythia-70m",
    "qwen2.5-0.5b",
    "qwen3-0.6b",
)

#: Those of them that are read from GGUF.
IN_GGUF = [name for name in REPRESENTATIVES if registry.family(backbones.get(name)).architectures]


def spec(name: str) -> BackboneSpec:
    """The row's stand-in, with a repository's name again, so that files of it can be fetched."""
    return replace(controls.stand_in(backbones.get(name)), repo=f"tiny/{name}")


def tensors(row: BackboneSpec, layer: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors of one block, norms and biases too, large enough for every path to be felt."""
    generator = torch.Generator().manual_seed(seed)
    shapes = architecture.shapes(row, row.layer if layer is None else layer)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def strong_block(row: BackboneSpec, options: BlockOptions = block.DEFAULT, seed: int = 0) -> block.FrozenBlock:
    """A block with those tensors."""
    return block.from_tensors(row, row.layer, tensors(row, seed=seed), options)


def reference_model(row: BackboneSpec) -> nn.Module:
    """The whole tiny model as transformers builds it, with eager attention, and our tensors in the row's layer."""
    config = architecture.configuration(row)
    config.vocab_size, config.pad_token_id = VOCABULARY, 0
    torch.manual_seed(1)
    model = AutoModel.from_config(config, attn_implementation="eager").eval()
    layers(model)[row.layer].load_state_dict(tensors(row))
    return model


def _named_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    count = model.config.num_hidden_layers
    lists = ((name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList))
    return next((name, part) for name, part in lists if len(part) == count)


def layers(model: nn.Module) -> nn.ModuleList:
    """The layers of a transformers model, under whatever name."""
    return _named_layers(model)[1]


def write_checkpoint(
    folder: Path, row: BackboneSpec, prefix: str = "", layer: int | None = None, more: tuple[int, ...] = ()
) -> Path:
    """A sharded checkpoint: the layer, and more of them, span the shards b and c; shard a, with all the rest, is not
    even there.
    """
    layer = row.layer if layer is None else layer
    model = reference_model(row)
    own, _ = _named_layers(model)
    state = {f"{prefix}{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    mine = sorted(name for name in state if name.startswith(tuple(f"{prefix}{own}.{n}." for n in (layer, *more))))
    halves = {"b.safetensors": mine[::2], "c.safetensors": mine[1::2]}
    folder.mkdir(parents=True)
    for shard, names in halves.items():
        save_file({name: state[name] for name in names}, folder / shard)
    places = dict.fromkeys(state, "a.safetensors") | {name: shard for shard, part in halves.items() for name in part}
    places[f"vision_tower.encoder.layers.{layer}.self_attn.q_proj.weight"] = "a.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    model.config.save_pretrained(folder)
    return folder


def _interleaved(name: str, array: np.ndarray, shape: Shape) -> np.ndarray:
    if "q_proj" not in name and "k_proj" not in name:
        return array
    heads = shape.heads if "q_proj" in name else shape.kv_heads
    return array.reshape(heads, 2, array.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)


#: What undoes a converter -> what the converter of llama.cpp does to a tensor of transformers.
CONVERTERS = {
    family.as_stored: lambda name, array, shape: array,
    falcon.of_one_head: lambda name, array, shape: array,
    family.unpermuted: _interleaved,
    gpt2.input_first: lambda name, array, shape: array.T if array.ndim == 2 else array,
    gemma.norms_from_zero: lambda name, array, shape: array + 1 if name.endswith("norm.weight") else array,
}


def write_gguf(path: Path, row: BackboneSpec, heads: int | None = None) -> Path:
    """A GGUF file, in fp32, that holds the row's layer alone."""
    kind = registry.family(row)
    shape = kind.shape(row.config)
    writer = gguf.GGUFWriter(path, kind.architectures[0])
    writer.add_block_count(row.layers)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(heads or shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    for name, tensor in tensors(row).items():
        array = CONVERTERS[kind.from_gguf](name, tensor.numpy(), shape)
        writer.add_tensor(f"blk.{row.layer}.{kind.tensors[name]}", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
