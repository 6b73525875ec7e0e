"""Phi 3: Llama's block with one projection for query, key and value, and one for the two halves of the gated MLP."""

from __future__ import annotations

from backbones.family import DECODER_KEYS, Family, decoder_parameters
from backbones.spec import BackboneSpec

TENSORS = {
    "self_attn.qkv_proj.weight": "attn_qkv.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
}

FAMILY = Family(
    name="phi3",
    module="transformers.models.phi3.modeling_phi3",
    configuration="Phi3Config",
    model="Phi3PreTrainedModel",
    layer="Phi3DecoderLayer",
    rotary="Phi3RotaryEmbedding",
    keys=DECODER_KEYS,
    parameters=decoder_parameters,
    architectures=("phi3",),
    tensors=TENSORS,
)

ROWS = (
    BackboneSpec(
        name="phi3-mini",
        family="phi3",
        repo="microsoft/Phi-3-mini-4k-instruct",
        width=3072,
        layers=32,
        layer=31,
        licence="MIT",
        config={
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        },
        citation="Abdin et al., Phi-3 Technical Report: A Highly Capable Language Model, arXiv 2404.14219",
        source="LitGPT litgpt/config.py, row Phi-3-mini-4k-instruct; defaults of transformers' Phi3Config; "
        "licence not seen on the hub's page",
    ),
)
