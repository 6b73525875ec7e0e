"""Qwen 2 and 2.5: Llama's block with biases on query, key and value."""

from __future__ import annotations

from backbones.family import DECODER_KEYS, DECODER_TENSORS, Family, Shape, decoder_config, decoder_parameters
from backbones.spec import BackboneSpec

TENSORS = DECODER_TENSORS | {f"self_attn.{part}_proj.bias": f"attn_{part}.bias" for part in "qkv"}


def parameters(shape: Shape) -> int:
    """Parameters of a block: Llama's, and the biases."""
    return decoder_parameters(shape) + shape.head_dim * (shape.heads + 2 * shape.kv_heads)


FAMILY = Family(
    name="qwen2",
    module="transformers.models.qwen2.modeling_qwen2",
    configuration="Qwen2Config",
    model="Qwen2PreTrainedModel",
    layer="Qwen2DecoderLayer",
    rotary="Qwen2RotaryEmbedding",
    keys=DECODER_KEYS,
    parameters=parameters,
    architectures=("qwen2",),
    tensors=TENSORS,
)

ROWS = (
    BackboneSpec(
        name="qwen2-7b",
        family="qwen2",
        repo="Qwen/Qwen2-7B",
        width=3584,
        layers=28,
        layer=27,
        licence="Apache-2.0",
        config=decoder_config(
            width=3584, ffn=18944, layers=28, heads=28, kv_heads=4, positions=131072, eps=1e-6, theta=1e6
        ),
        citation="Yang et al., Qwen2 Technical Report, arXiv 2407.10671",
        source="public copies of the configuration; sizes in the Qwen2 report; licence by the authors on the hub",
    ),
    BackboneSpec(
        name="qwen2.5-0.5b",
        family="qwen2",
        repo="Qwen/Qwen2.5-0.5B",
        width=896,
        layers=24,
        layer=23,
        licence="Apache-2.0",
        config=decoder_config(
            width=896, ffn=4864, layers=24, heads=14, kv_heads=2, positions=32768, eps=1e-6, theta=1e6
        ),
        citation="Qwen Team, Qwen2.5 Technical Report, arXiv 2412.15115",
        source="LitGPT litgpt/config.py, row Qwen2.5-0.5B",
    ),
    BackboneSpec(
        name="qwen2.5-1.5b",
        family="qwen2",
        repo="Qwen/Qwen2.5-1.5B",
        width=1536,
        layers=28,
        layer=27,
        licence="Apache-2.0",
        config=decoder_config(
            width=1536, ffn=8960, layers=28, heads=12, kv_heads=2, positions=131072, eps=1e-6, theta=1e6
        ),
        citation="Qwen Team, Qwen2.5 Technical Report, arXiv 2412.15115",
        source="LitGPT litgpt/config.py, row Qwen2.5-1.5B",
    ),
    BackboneSpec(
        name="qwen2.5-7b",
        family="qwen2",
        repo="Qwen/Qwen2.5-7B",
        width=3584,
        layers=28,
        layer=27,
        licence="Apache-2.0",
        config=decoder_config(
            width=3584, ffn=18944, layers=28, heads=28, kv_heads=4, positions=131072, eps=1e-6, theta=1e6
        ),
        citation="Qwen Team, Qwen2.5 Technical Report, arXiv 2412.15115",
        source="LitGPT litgpt/config.py, row Qwen2.5-7B",
    ),
    BackboneSpec(
        name="deepseek-r1-distill-qwen-1.5b",
        family="qwen2",
        repo="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        width=1536,
        layers=28,
        layer=27,
        licence="MIT",
        config=decoder_config(
            width=1536, ffn=8960, layers=28, heads=12, kv_heads=2, positions=131072, eps=1e-6, theta=1e4
        ),
        citation="DeepSeek-AI, DeepSeek-R1: Incentivizing Reasoning Capability in LLMs, arXiv 2501.12948",
        source="public copies of the configuration; sizes as LitGPT's row Qwen2.5-Math-1.5B; licence of the model card",
    ),
)
