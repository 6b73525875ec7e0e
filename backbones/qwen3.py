"""Qwen 3: Llama's block with norms of queries and keys, and heads that need not add up to the width."""

from __future__ import annotations

from backbones.family import DECODER_KEYS, DECODER_TENSORS, Family, Shape, decoder_config, decoder_parameters
from backbones.spec import BackboneSpec

TENSORS = DECODER_TENSORS | {
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
}


def parameters(shape: Shape) -> int:
    """Parameters of a block: Llama's, and two norms of a head."""
    return decoder_parameters(shape) + 2 * shape.head_dim


FAMILY = Family(
    name="qwen3",
    module="transformers.models.qwen3.modeling_qwen3",
    configuration="Qwen3Config",
    model="Qwen3PreTrainedModel",
    layer="Qwen3DecoderLayer",
    rotary="Qwen3RotaryEmbedding",
    keys=DECODER_KEYS,
    parameters=parameters,
    architectures=("qwen3",),
    tensors=TENSORS,
)

ROWS = (
    BackboneSpec(
        name="qwen3-0.6b",
        family="qwen3",
        repo="Qwen/Qwen3-0.6B",
        width=1024,
        layers=28,
        layer=27,
        licence="Apache-2.0",
        config=decoder_config(
            width=1024, ffn=3072, layers=28, heads=16, kv_heads=8, positions=40960, eps=1e-6, theta=1e6, head_dim=128
        ),
        citation="Qwen Team, Qwen3 Technical Report, arXiv 2505.09388",
        source="LitGPT litgpt/config.py, row Qwen3-0.6B",
    ),
    BackboneSpec(
        name="qwen3-1.7b",
        family="qwen3",
        repo="Qwen/Qwen3-1.7B",
        width=2048,
        layers=28,
        layer=27,
        licence="Apache-2.0",
        config=decoder_config(
            width=2048, ffn=6144, layers=28, heads=16, kv_heads=8, positions=40960, eps=1e-6, theta=1e6, head_dim=128
        ),
        citation="Qwen Team, Qwen3 Technical Report, arXiv 2505.09388",
        source="LitGPT litgpt/config.py, row Qwen3-1.7B",
    ),
    BackboneSpec(
        name="qwen3-4b",
        family="qwen3",
        repo="Qwen/Qwen3-4B",
        width=2560,
        layers=36,
        layer=35,
        licence="Apache-2.0",
        config=decoder_config(
            width=2560, ffn=9728, layers=36, heads=32, kv_heads=8, positions=40960, eps=1e-6, theta=1e6, head_dim=128
        ),
        citation="Qwen Team, Qwen3 Technical Report, arXiv 2505.09388",
        source="LitGPT litgpt/config.py, row Qwen3-4B",
    ),
    BackboneSpec(
        name="qwen3-8b",
        family="qwen3",
        repo="Qwen/Qwen3-8B",
        width=4096,
        layers=36,
        layer=35,
        licence="Apache-2.0",
        config=decoder_config(
            width=4096, ffn=12288, layers=36, heads=32, kv_heads=8, positions=40960, eps=1e-6, theta=1e6, head_dim=128
        ),
        citation="Qwen Team, Qwen3 Technical Report, arXiv 2505.09388",
        source="LitGPT litgpt/config.py, row Qwen3-8B",
    ),
)
