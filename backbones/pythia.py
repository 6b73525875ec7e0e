"""Pythia, of the GPT-NeoX architecture: attention and MLP side by side, a quarter of each head turned by rotary."""

from __future__ import annotations

from backbones.family import Family, plain_parameters
from backbones.spec import BackboneSpec

FAMILY = Family(
    name="gpt_neox",
    module="transformers.models.gpt_neox.modeling_gpt_neox",
    configuration="GPTNeoXConfig",
    model="GPTNeoXPreTrainedModel",
    layer="GPTNeoXLayer",
    rotary="GPTNeoXRotaryEmbedding",
    keys={"hidden_size": "width", "num_attention_heads": "heads", "intermediate_size": "ffn"},
    parameters=plain_parameters,
    prefixes=("gpt_neox.layers.{i}.", "layers.{i}."),
    # The causal mask and the frequencies, which old checkpoints carry along.
    ignored=("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
)


def _row(name: str, width: int, layers: int, heads: int, source: str = "LitGPT litgpt/config.py") -> BackboneSpec:
    config = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "use_parallel_residual": True,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    }
    return BackboneSpec(
        name=name,
        family="gpt_neox",
        repo=f"EleutherAI/{name}",
        width=width,
        layers=layers,
        layer=layers - 1,
        licence="Apache-2.0",
        config=config,
        citation="Biderman et al., Pythia: A Suite for Analyzing Large Language Models, arXiv 2304.01373",
        source=source,
    )


AND_COPY = "LitGPT litgpt/config.py; public copy of config.json"

ROWS = (
    _row("pythia-70m", 512, 6, 8, AND_COPY),
    _row("pythia-160m", 768, 12, 12),
    _row("pythia-410m", 1024, 24, 16),
    _row("pythia-1b", 2048, 16, 8, AND_COPY),
    _row("pythia-1.4b", 2048, 24, 16),
    _row("pythia-2.8b", 2560, 32, 32),
    _row("pythia-6.9b", 4096, 32, 32, AND_COPY),
)
