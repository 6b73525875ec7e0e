"""What may stand in the block's place: the pre-trained block, and what tells whether it is the pre-training.

A control that needs no block of an LLM (`none`; `mlp` and `depth`, which the segmenter builds to measure) has no place
here: `build` knows those that are a block, frozen or trained.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from backbones import registry, weights
from backbones.errors import WeightsMissing
from backbones.family import Shape
from backbones.spec import BackboneSpec, BlockOptions
from backbones.weights import BlockFile

if TYPE_CHECKING:
    import torch
    from torch import nn

#: The controls that `build` knows, by the names that records use; the first four read the pre-trained block.
KNOWN = ("pretrained", "shuffled", "trainable", "lora", "random", "stand-in", "identity")


def _scaled(shape: Shape) -> Shape:
    """About 64 to 96 wide, with the ratios of query to key heads, of heads to width and of MLP to width kept."""
    group = min(shape.heads // shape.kv_heads, 8)
    heads, kv_heads = (4, 4) if group == 1 else (group, 1)
    for width in (*range(64, 97, 8), *range(66, 97, 2)):
        head_dim, rest = divmod(shape.heads * shape.head_dim * width, shape.width * heads)
        if not rest and head_dim % 2 == 0 and width % heads == 0:  # rotary turns pairs; transformers wants the rest
            break
    else:
        width, head_dim = 16 * heads, 16
    ffn = max(8, round(width * shape.ffn / shape.width / 8) * 8)
    return Shape(width, heads, kv_heads, head_dim, ffn)


def stand_in(spec: BackboneSpec) -> BackboneSpec:
    """A tiny twin of the row, under the same name: same family, layers and ratios, no weights anywhere."""
    family = registry.family(spec)
    shape = _scaled(family.shape(spec.config))
    config = family.resized(spec.config, shape)
    return replace(spec, repo="", width=shape.width, config=config, package=None, source=f"{spec.name}, scaled down")


def _own_seed(spec: BackboneSpec, seed: int, second: bool = False) -> int:
    """Each backbone draws its own numbers: rows of one architecture would be one and the same block otherwise.

    So does the second of a segmenter's two blocks.
    """
    drawn = f"{spec.name} {seed}" + " second" * second
    return int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:4], "big")


def build(
    spec: BackboneSpec,
    control: str,
    layer: int | None = None,
    block_file: BlockFile | None = None,
    seed: int = 0,
    options: BlockOptions | None = None,
    lora_rank: int = 4,
    second: bool = False,
) -> nn.Module:
    """The block of one arm: a module with a `width` L that maps (B, N, L) to (B, N, L).

    `pretrained` is read from block_file, or from the cache without one, and frozen. `shuffled` is the same, each
    tensor's entries in another order; `trainable` the same, trained; `lora` the same, frozen, with a trained LoRA of
    rank lora_rank on its linear layers. `random` and `stand-in` are initialised as the family does it. `identity` is
    nothing but its width: the two mappers are left. Seeded by seed and the backbone's name; second, of a segmenter with
    two blocks, draws other numbers than the first. layer is the row's where it is None. Errors: WeightsError,
    WeightsMissing; ValueError for an unknown control.
    """
    if control not in KNOWN:
        raise ValueError(f"unknown control {control!r}; known: {', '.join(KNOWN)}")
    if control == "identity":
        return _identity(spec.width)
    from backbones import block

    options = options or BlockOptions()
    layer = spec.layer if layer is None else layer
    own_seed = _own_seed(spec, seed, second)
    if control == "stand-in":
        return block.initialised(stand_in(spec), layer, own_seed, options)
    if control == "random":
        return block.initialised(spec, layer, own_seed, options)
    tensors = weights.load(spec, block_file or _kept(spec, layer))
    if control == "shuffled":
        tensors = shuffled(tensors, own_seed)
    if control == "trainable":
        # Small steps are lost in bf16: what learns is kept in fp32. In a training in bf16, autocast multiplies in bf16.
        return block.trainable(block.from_tensors(spec, layer, tensors, replace(options, dtype="fp32")))
    frozen = block.from_tensors(spec, layer, tensors, options)
    if control == "lora":
        from backbones.lora import with_lora

        return with_lora(frozen, lora_rank, own_seed)
    return frozen


def _identity(width: int) -> nn.Module:
    from torch import nn

    identity = nn.Identity()
    identity.width = width  # type: ignore[assignment]
    return identity


def _kept(spec: BackboneSpec, layer: int) -> BlockFile:
    found = weights.find(spec, layer)
    if found is None:
        raise WeightsMissing(
            f"the weights of {spec.name!r}, layer {layer}, are not here; `bench weights fetch {spec.name}` gets them"
        )
    return found


def shuffled(tensors: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Each tensor with its own entries in another order: every distribution kept, every structure gone."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].reshape(tensor.shape)
        for name, tensor in sorted(tensors.items())
    }
