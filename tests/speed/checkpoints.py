"""Checkpoints of Llama's shape, made for a measurement and gone after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.spec import BackboneSpec
from tests.speed.harness import say

VOCABULARY = 32000
LAYERS = 32


def llama(width: int, ffn: int) -> BackboneSpec:
    """A row of Llama's family with 32 layers, of which the last is read."""
    import backbones

    config = {
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    name, layer = f"llama-{width}", LAYERS - 1
    return replace(
        backbones.get("llama3"), name=name, repo=f"speed/{name}", width=width, layers=LAYERS, layer=layer, config=config
    )


#: 2.5 GB in bf16, 71 MB of them in a layer, in six shards.
LARGE = llama(2048, 4096)
SHARD = "500MB"


def quiet_transformers() -> Any:
    """The library without its bars and its table of unused tensors."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def write_checkpoint(folder: Path, row: BackboneSpec, shard: str) -> int:
    """A causal language model in bf16, of the same noise in every layer, as transformers saves it; its bytes."""
    import torch

    transformers = quiet_transformers()
    config = transformers.LlamaConfig(**row.config, vocab_size=VOCABULARY)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device="cpu")
    noise = (0.02 * torch.randn(VOCABULARY * row.width)).bfloat16()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(noise[: parameter.numel()].view(parameter.shape))
    model.save_pretrained(folder, max_shard_size=shard)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


@contextmanager
def checkpoint_of(row: BackboneSpec, shard: str) -> Iterator[Path]:
    """The checkpoint's folder, gone afterwards; its files are in the page cache as they have just been written."""
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
        say(f"  writing a checkpoint of {row.name}'s shape")
        say(f"  {write_checkpoint(Path(folder), row, shard) / 1e9:.2f} GB in bf16")
        yield Path(folder)
