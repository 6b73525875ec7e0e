"""Falcon: attention and MLP side by side after one norm, and in the 7B one key and value head for all queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backbones.errors import WeightsError
from backbones.family import Family, Shape
from backbones.spec import BackboneSpec

TENSORS = {
    "self_attention.query_key_value.weight": "attn_qkv.weight",
    "self_attention.dense.weight": "attn_output.weight",
    "mlp.dense_h_to_4h.weight": "ffn_up.weight",
    "mlp.dense_4h_to_h.weight": "ffn_down.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "input_layernorm.bias": "attn_norm.bias",
}


def taken(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The old architecture has one key and value head if it is multi_query, whatever num_kv_heads says."""
    one = config.get("multi_query", True) and not config.get("new_decoder_architecture")
    return dict(config) | {"num_kv_heads": 1} if one else config


def parameters(shape: Shape, config: Mapping[str, Any]) -> int:
    """Parameters of a block: four projections, an MLP, one or two norms; biases where the config wants them."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    matrices = 2 * shape.width * (queries + keys + shape.ffn)
    biases = queries + 2 * keys + 2 * shape.width + shape.ffn if config.get("bias") else 0
    own_norms = config.get("num_ln_in_parallel_attn") or (2 if config.get("new_decoder_architecture") else 1)
    norms = own_norms if config.get("parallel_attn", True) else 2
    return matrices + biases + norms * 2 * shape.width


def of_one_head(name: str, array: Any, shape: Shape) -> Any:
    """The tensor as it is; WeightsError for several key and value heads, whose joint projection GGUF reorders."""
    if shape.kv_heads > 1:
        raise WeightsError(
            f"a Falcon with {shape.kv_heads} key and value heads is not read from GGUF, which keeps them in another "
            "order; what works is a Hugging Face checkpoint"
        )
    return array


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
    taken=taken,
    prefixes=("transformer.h.{i}.", "h.{i}."),
    ignored=("self_attention.rotary_emb.inv_freq",),
    architectures=("falcon",),
    tensors=TENSORS,
    from_gguf=of_one_head,
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
            "num_kv_heads": 71,
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
