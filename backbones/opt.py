"""OPT: GPT-2's block with ReLU and apart projections. opt-350m norms after each half, its siblings before."""

from __future__ import annotations

from backbones.family import Family, plain_parameters
from backbones.spec import BackboneSpec

FAMILY = Family(
    name="opt",
    module="transformers.models.opt.modeling_opt",
    configuration="OPTConfig",
    model="OPTPreTrainedModel",
    layer="OPTDecoderLayer",
    rotary="",
    keys={"hidden_size": "width", "num_attention_heads": "heads", "ffn_dim": "ffn"},
    parameters=plain_parameters,
    prefixes=("model.decoder.layers.{i}.", "decoder.layers.{i}."),
    ignored=(),
)


def _row(name: str, width: int, layers: int, heads: int, source: str, norm_first: bool = True) -> BackboneSpec:
    config = {
        "hidden_size": width,
        "ffn_dim": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "do_layer_norm_before": norm_first,
    }
    return BackboneSpec(
        name=name,
        family="opt",
        repo=f"facebook/{name}",
        width=width,
        layers=layers,
        layer=layers - 1,
        licence="OPT-175B License Agreement (research only, not commercial)",
        config=config,
        citation="Zhang et al., OPT: Open Pre-trained Transformer Language Models, arXiv 2205.01068",
        source=source,
    )


FLEXGEN = "FlexGen flexgen/opt_config.py"
TABLES = f"{FLEXGEN}; a second public table of the sizes; the rest by the defaults of transformers' OPTConfig"

ROWS = (
    _row("opt-125m", 768, 12, 12, f"defaults of transformers' OPTConfig; {FLEXGEN}"),
    _row("opt-350m", 1024, 24, 16, f"public copy of config.json; {FLEXGEN}", norm_first=False),
    _row("opt-1.3b", 2048, 24, 32, TABLES),
    _row("opt-2.7b", 2560, 32, 32, TABLES),
    _row("opt-6.7b", 4096, 32, 32, TABLES),
)
