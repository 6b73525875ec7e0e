"""Tiny models of every family: their tensors, and the files that they come in."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

import backbones
from backbones import architecture, block, controls, registry
from backbones.spec import BackboneSpec

VOCABULARY = 32


def spec(name: str) -> BackboneSpec:
    """The row's stand-in, with a repository's name again, so that files of it can be fetched."""
    from dataclasses import replace

    return replace(controls.stand_in(backbones.get(name)), repo=f"tiny/{name}")


def tensors(row: BackboneSpec, layer: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors of one block, norms and biases too, large enough for every path to be felt."""
    generator = torch.Generator().manual_seed(seed)
    shapes = architecture.shapes(row, row.layer if layer is None else layer)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def strong_block(row: BackboneSpec, rotary: bool = False, seed: int = 0) -> block.FrozenBlock:
    """A block with those tensors."""
    return block.from_tensors(row, row.layer, tensors(row, seed=seed), rotary)


def reference_model(row: BackboneSpec) -> torch.nn.Module:
    """The whole tiny model as transformers builds it, with eager attention, and our tensors in the row's layer."""
    family = registry.family(row)
    module = importlib.import_module(family.module)
    name = {"gpt2": "GPT2Model", "gemma": "Gemma3TextModel"}.get(family.name, f"{family.name.title()}Model")
    config = getattr(module, family.configuration)(
        **row.config, vocab_size=VOCABULARY, pad_token_id=0, attn_implementation="eager"
    )
    torch.manual_seed(1)
    model = getattr(module, name)(config).eval()
    layers(model)[row.layer].load_state_dict(tensors(row))
    return model


def layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    """The layers of a transformers model."""
    return model.h if hasattr(model, "h") else model.layers


def write_checkpoint(folder: Path, row: BackboneSpec, prefix: str = "", layer: int | None = None) -> Path:
    """A sharded checkpoint: the layer spans the shards b and c; shard a, with all the rest, is not even there."""
    layer = row.layer if layer is None else layer
    model = reference_model(row)
    own = "h" if hasattr(model, "h") else "layers"
    state = {f"{prefix}{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    mine = sorted(name for name in state if name.startswith(f"{prefix}{own}.{layer}."))
    halves = {"b.safetensors": mine[::2], "c.safetensors": mine[1::2]}
    folder.mkdir(parents=True)
    for shard, names in halves.items():
        save_file({name: state[name] for name in names}, folder / shard)
    places = dict.fromkeys(state, "a.safetensors") | {name: shard for shard, part in halves.items() for name in part}
    places[f"vision_tower.encoder.layers.{layer}.self_attn.q_proj.weight"] = "a.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    model.config.save_pretrained(folder)
    return folder


def _as_llama_cpp_has_it(family: str, name: str, array: np.ndarray, row: BackboneSpec) -> np.ndarray:
    """What the converter of llama.cpp does to a tensor of transformers."""
    if family == "gpt2" and array.ndim == 2:
        return array.T
    if family == "gemma" and name.endswith("norm.weight"):
        return array + 1
    if family in ("llama", "mistral") and ("q_proj" in name or "k_proj" in name):
        heads = row.config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        return array.reshape(heads, 2, array.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
    return array


def write_gguf(path: Path, row: BackboneSpec, heads: int | None = None) -> Path:
    """A GGUF file, in fp32, that holds the row's layer alone."""
    family = registry.family(row)
    shape = family.shape(row.config)
    writer = gguf.GGUFWriter(path, family.architectures[0])
    writer.add_block_count(row.layers)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(heads or shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    for name, tensor in tensors(row).items():
        array = _as_llama_cpp_has_it(family.name, name, tensor.numpy(), row)
        writer.add_tensor(f"blk.{row.layer}.{family.tensors[name]}", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
