"""Mistral: Llama's block with configuration and classes of its own. In GGUF it goes by the name of llama."""

from __future__ import annotations

from backbones.family import DECODER_KEYS, DECODER_TENSORS, Family, decoder_config, decoder_parameters, unpermuted
from backbones.spec import BackboneSpec

FAMILY = Family(
    name="mistral",
    module="transformers.models.mistral.modeling_mistral",
    configuration="MistralConfig",
    model="MistralPreTrainedModel",
    layer="MistralDecoderLayer",
    rotary="MistralRotaryEmbedding",
    keys=DECODER_KEYS,
    tensors=DECODER_TENSORS,
    parameters=decoder_parameters,
    architectures=("llama", "mistral"),
    from_gguf=unpermuted,
)

ROWS = (
    BackboneSpec(
        name="mistral",
        family="mistral",
        repo="mistralai/Mistral-7B-v0.3",
        width=4096,
        layers=32,
        layer=31,
        licence="Apache-2.0",
        config={
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_window": None,
        },
        citation="Jiang et al., Mistral 7B, arXiv 2310.06825",
        source="LitGPT litgpt/config.py, row Mistral-7B-v0.3; public copies of config.json; gate not seen on the hub",
    ),
    BackboneSpec(
        name="biomistral",
        family="mistral",
        repo="BioMistral/BioMistral-7B",
        width=4096,
        layers=32,
        layer=31,
        licence="Apache-2.0",
        config=decoder_config(
            width=4096,
            ffn=14336,
            layers=32,
            heads=32,
            kv_heads=8,
            positions=32768,
            eps=1e-5,
            theta=1e4,
            sliding_window=4096,
        ),
        citation="Labrak et al., BioMistral: Pretrained Language Models for Medical Domains, arXiv 2402.10373",
        source="stored copy of the hub's config.json; licence on the hub's page",
    ),
)
