"""BioGPT: GPT-2's block with apart projections, trained on abstracts of PubMed."""

from __future__ import annotations

from backbones.family import Family, plain_parameters
from backbones.spec import BackboneSpec

FAMILY = Family(
    name="biogpt",
    module="transformers.models.biogpt.modeling_biogpt",
    configuration="BioGptConfig",
    model="BioGptPreTrainedModel",
    layer="BioGptDecoderLayer",
    rotary="",
    keys={"hidden_size": "width", "num_attention_heads": "heads", "intermediate_size": "ffn"},
    parameters=plain_parameters,
    prefixes=("biogpt.layers.{i}.", "layers.{i}."),
    ignored=(),
)

ROWS = (
    BackboneSpec(
        name="biogpt",
        family="biogpt",
        repo="microsoft/biogpt",
        width=1024,
        layers=24,
        layer=23,
        licence="MIT",
        config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
        },
        citation="Luo et al., BioGPT: Generative Pre-trained Transformer for Biomedical Text, arXiv 2210.10341",
        source="defaults of transformers' BioGptConfig; public copies of config.json; licence on the hub's page",
    ),
)
