"""What a family of LLMs must say of itself, so that one code path serves them all. Standard library only.

A family is data: the names of its transformers classes, of its tensors in checkpoints and in GGUF files,
and of the settings that give a block its shape. Its module holds `FAMILY` and `ROWS`, and nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Settings that change what a block computes. A checkpoint's config.json must agree with the row in all of them.
#: Partial rotary embeddings have their share in rope_parameters. The sliding window is not among them: our mask is
#: full, as the tokens are voxels and not a text. Nor is Falcon's num_kv_heads, which multi_query overrules: a wrong
#: one shows in the tensors' shapes.
DECISIVE = (
    "activation",
    "activation_function",
    "alibi",
    "attention_bias",
    "attn_logit_softcapping",
    "bias",
    "do_layer_norm_before",
    "enable_bias",
    "ffn_dim",
    "ffn_hidden_size",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "layer_norm_elementwise_affine",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layer_types",
    "mlp_bias",
    "multi_query",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "new_decoder_architecture",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_ln_in_parallel_attn",
    "parallel_attn",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_parameters",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "use_parallel_residual",
)

#: Where checkpoints keep layer i. The first one that fits is taken; towers for images never start like this.
DECODER_PREFIXES = (
    "model.layers.{i}.",
    "layers.{i}.",
    "language_model.model.layers.{i}.",
    "model.language_model.layers.{i}.",
)


@dataclass(frozen=True)
class Shape:
    """The sizes of one block: token width, query heads, key and value heads, width of a head and of the MLP."""

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int


def as_stored(name: str, array: Any, shape: Shape) -> Any:
    """The GGUF tensor as it is: most need no change."""
    return array


@dataclass(frozen=True)
class Family:
    """The quirks of one architecture.

    module: the transformers module; configuration, model, layer and rotary: its classes (rotary empty for none), model
    being the one that initialises weights. attention: the kernel, `sdpa` where the layer may take it, else `eager`.
    keys: setting of the configuration -> field of Shape. parameters: parameters of one block.

    In checkpoints: prefixes, where layer i may lie; ignored, entries of a layer that are no weights; renamed, how a
    tensor's name ended once -> how it ends now.

    In GGUF: architectures, the names that files of this family give themselves (empty: the family is not read from
    GGUF, as transformers does not read it either, or not rightly); tensors, tensor of the block -> its name after
    `blk.{i}.`; from_gguf(name, array, shape) undoes what the converter did to the tensor called name.
    """

    name: str
    module: str
    configuration: str
    model: str
    layer: str
    rotary: str
    keys: Mapping[str, str]
    parameters: Callable[[Shape], int]
    attention: str = "sdpa"
    prefixes: tuple[str, ...] = DECODER_PREFIXES
    ignored: tuple[str, ...] = ("self_attn.rotary_emb.inv_freq",)
    renamed: Mapping[str, str] = field(default_factory=dict)
    architectures: tuple[str, ...] = ()
    tensors: Mapping[str, str] = field(default_factory=dict)
    from_gguf: Callable[[str, Any, Shape], Any] = as_stored

    def own_name(self, entry: str) -> str | None:
        """The block's name for an entry of a checkpoint's layer, its prefix taken off; None if it is no weight."""
        if entry in self.ignored:
            return None
        for old, new in self.renamed.items():
            if entry.endswith(old):
                return entry.removesuffix(old) + new
        return entry

    def shape(self, config: Mapping[str, Any]) -> Shape:
        """The sizes that a row's config gives, with the families' common defaults for what it leaves out."""
        sizes: dict[str, int] = {}
        for key, name in self.keys.items():
            if config.get(key) is not None:
                sizes.setdefault(name, config[key])
        sizes.setdefault("kv_heads", sizes["heads"])
        sizes.setdefault("head_dim", sizes["width"] // sizes["heads"])
        sizes.setdefault("ffn", 4 * sizes["width"])
        return Shape(**sizes)

    def resized(self, config: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
        """The same config with other sizes; what it leaves to a default stays left out."""
        return {key: getattr(shape, self.keys[key]) if key in self.keys else value for key, value in config.items()}


#: The settings of Llama and of those that came after it.
DECODER_KEYS = {
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "ffn",
}


def decoder_config(
    *,
    width: int,
    ffn: int,
    layers: int,
    heads: int,
    kv_heads: int,
    positions: int,
    eps: float,
    theta: float = 1e4,
    **more: Any,
) -> dict[str, Any]:
    """A row's config under the names of Llama and its followers; more overrides, and adds what a family has besides."""
    return {
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": positions,
        "rms_norm_eps": eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
    } | more


#: The tensors of a Llama block, and their names in GGUF.
DECODER_TENSORS = {
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
}


def decoder_parameters(shape: Shape) -> int:
    """Parameters of a Llama block: four projections, a gated MLP, two norms, no biases."""
    attention = 2 * shape.width * shape.head_dim * (shape.heads + shape.kv_heads)
    return attention + 3 * shape.width * shape.ffn + 2 * shape.width


def plain_parameters(shape: Shape) -> int:
    """Parameters of a block of GPT-2's kind: attention, MLP and two norms, each with biases."""
    attention = 4 * shape.width * shape.width + 4 * shape.width
    mlp = 2 * shape.width * shape.ffn + shape.ffn + shape.width
    return attention + mlp + 4 * shape.width


def unpermuted(name: str, array: Any, shape: Shape) -> Any:
    """Query and key rows in the order of transformers: GGUF interleaves the two halves of each rotary head."""
    if name not in ("self_attn.q_proj.weight", "self_attn.k_proj.weight"):
        return array
    heads = shape.heads if "q_proj" in name else shape.kv_heads
    half = array.shape[0] // heads // 2
    return array.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(array.shape)
