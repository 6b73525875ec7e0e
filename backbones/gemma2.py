"""Gemma 2: norms before and after each half, norm weights counted from one, attention scores capped by a tanh."""

from __future__ import annotations

from backbones.family import DECODER_KEYS, DECODER_TENSORS, Family, Shape, decoder_config, decoder_parameters
from backbones.gemma import norms_from_zero
from backbones.spec import BackboneSpec

TENSORS = DECODER_TENSORS | {
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
}


def parameters(shape: Shape) -> int:
    """Parameters of a block: Llama's, and two more norms of the width."""
    return decoder_parameters(shape) + 2 * shape.width


FAMILY = Family(
    name="gemma2",
    module="transformers.models.gemma2.modeling_gemma2",
    configuration="Gemma2Config",
    model="Gemma2PreTrainedModel",
    layer="Gemma2DecoderLayer",
    rotary="Gemma2RotaryEmbedding",
    keys=DECODER_KEYS | {"query_pre_attn_scalar": "head_dim"},
    parameters=parameters,
    attention="eager",  # no other kernel caps the scores
    architectures=("gemma2",),
    tensors=TENSORS,
    from_gguf=norms_from_zero,
)

ROWS = (
    BackboneSpec(
        name="gemma2-9b",
        family="gemma2",
        repo="google/gemma-2-9b",
        width=3584,
        layers=42,
        layer=41,
        licence="Gemma Terms of Use",
        gated=True,
        config=decoder_config(
            width=3584,
            ffn=14336,
            layers=42,
            heads=16,
            kv_heads=8,
            positions=8192,
            eps=1e-6,
            theta=1e4,
            head_dim=256,
            query_pre_attn_scalar=256,
            attn_logit_softcapping=50.0,
        ),
        citation="Gemma Team, Gemma 2: Improving Open Language Models at a Practical Size, arXiv 2408.00118",
        source="LitGPT litgpt/config.py, row Gemma-2-9b; public copies of config.json; gate not seen on the hub",
    ),
)
