"""GPT-2: LayerNorm, biases, one projection for query, key and value, positions learned outside the block."""

from __future__ import annotations

from typing import Any

from backbones.family import Family, Shape, plain_parameters
from backbones.spec import BackboneSpec

TENSORS = {
    "ln_1.weight": "attn_norm.weight",
    "ln_1.bias": "attn_norm.bias",
    "attn.c_attn.weight": "attn_qkv.weight",
    "attn.c_attn.bias": "attn_qkv.bias",
    "attn.c_proj.weight": "attn_output.weight",
    "attn.c_proj.bias": "attn_output.bias",
    "ln_2.weight": "ffn_norm.weight",
    "ln_2.bias": "ffn_norm.bias",
    "mlp.c_fc.weight": "ffn_up.weight",
    "mlp.c_fc.bias": "ffn_up.bias",
    "mlp.c_proj.weight": "ffn_down.weight",
    "mlp.c_proj.bias": "ffn_down.bias",
}


def input_first(name: str, array: Any, shape: Shape) -> Any:
    """Matrices as (inputs, outputs), as GPT-2's Conv1D wants them; GGUF has them the other way round."""
    return array.T if array.ndim == 2 else array


FAMILY = Family(
    name="gpt2",
    module="transformers.models.gpt2.modeling_gpt2",
    configuration="GPT2Config",
    model="GPT2PreTrainedModel",
    layer="GPT2Block",
    rotary="",
    keys={"n_embd": "width", "n_head": "heads", "n_inner": "ffn"},
    parameters=plain_parameters,
    tensors=TENSORS,
    architectures=("gpt2",),
    from_gguf=input_first,
    prefixes=("h.{i}.", "transformer.h.{i}."),
    ignored=("attn.bias", "attn.masked_bias"),  # the causal mask, which old checkpoints carry along
)


def _row(name: str, width: int, layers: int, heads: int, source: str) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="gpt2",
        repo=f"openai-community/{name}",
        width=width,
        layers=layers,
        layer=layers - 1,
        licence="MIT",
        config={"n_embd": width, "n_layer": layers, "n_head": heads},
        citation="Radford et al., Language Models are Unsupervised Multitask Learners, 2019",
        source=source,
    )


NANOGPT = "nanoGPT model.py, table of pre-trained models"

ROWS = (
    _row("gpt2", 768, 12, 12, f"defaults of transformers' GPT2Config; {NANOGPT}"),
    _row("gpt2-medium", 1024, 24, 16, NANOGPT),
    _row("gpt2-large", 1280, 36, 20, NANOGPT),
    _row("gpt2-xl", 1600, 48, 25, f"{NANOGPT}; public copies of config.json"),
)
