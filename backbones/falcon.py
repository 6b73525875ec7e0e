"""Falcon 7B: attention and MLP side by side after one norm, one key and value head for all queries, few biases."""

from __future__ import annotations

from backbones.family import Family, Shape
from backbones.spec import BackboneSpec

#: Right for one key and value head alone: with more, the converter to GGUF reorders the joint projection.
TENSORS = {
    "self_attention.query_key_value.weight": "attn_qkv.weight",
    "self_attention.dense.weight": "attn_output.weight",
    "mlp.dense_h_to_4h.weight": "ffn_up.weight",
    "mlp.dense_4h_to_h.weight": "ffn_down.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "input_layernorm.bias": "attn_norm.bias",
}


def parameters(shape: Shape) -> int:
    """Parameters of a block: matrices without biases, one norm with one."""
    attention = 2 * shape.width * shape.head_dim * (shape.heads + shape.kv_heads)
    return attention + 2 * shape.width * shape.ffn + 2 * shape.width


FAMILY = Family(
    name="falcon",
    module="transformers.models.falcon.modeling_falcon",
    configuration="FalconConfig",
    model="FalconPreTrainedModel",
    layer="FalconDecoderLayer",
    rotary="FalconRotaryEmbedding",
    keys={
        "hidden_size": "width",
        "num_attention_heads": "heads",
        "num_kv_heads": "kv_heads",
        "ffn_hidden_size": "ffn",
    },
    parameters=parameters,
    prefixes=("transformer.h.{i}.", "h.{i}."),
    ignored=("self_attention.rotary_emb.inv_freq",),
    architectures=("falcon",),
    tensors=TENSORS,
)

ROWS = (
    BackboneSpec(
        name="falcon-7b",
        family="falcon",
        repo="tiiuae/falcon-7b",
        width=4544,
        layers=32,
        layer=31,
        licence="Apache-2.0",
        config={
            "hidden_size": 4544,
            "ffn_hidden_size": 18176,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "num_kv_heads": 1,  # config.json says 71, and multi_query makes it 1
            "multi_query": True,
            "parallel_attn": True,
            "new_decoder_architecture": False,
            "alibi": False,
            "bias": False,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        citation="Almazrouei et al., The Falcon Series of Open Language Models, arXiv 2311.16867",
        source="LitGPT litgpt/config.py, row falcon-7b; public copies of config.json; defaults of FalconConfig",
    ),
)
