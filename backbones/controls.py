"""What may stand in the block's place: nothing, the pre-trained block, its random twin, a tiny stand-in."""

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
    from backbones.block import FrozenBlock

#: The controls that `build` knows, by the names that records use.
KNOWN = ("none", "pretrained", "random", "stand-in")


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


def _own_seed(spec: BackboneSpec, seed: int) -> int:
    """Each backbone draws its own numbers: rows of one architecture would be one and the same block otherwise."""
    return int.from_bytes(hashlib.sha256(f"{spec.name} {seed}".encode()).digest()[:4], "big")


def build(
    spec: BackboneSpec | None,
    control: str,
    layer: int | None,
    block_file: BlockFile | None = None,
    seed: int = 0,
    rotary: bool = False,
) -> FrozenBlock | None:
    """The block of one arm, in fp32; None for the control `none`.

    `pretrained` reads block_file, or the cache without one. `random` and `stand-in` are initialised as the family
    does it, from the seed and the backbone's name. layer is that of the row where it is None. Errors: WeightsError,
    WeightsMissing.
    """
    if control not in KNOWN:
        raise ValueError(f"unknown control {control!r}; known: {', '.join(KNOWN)}")
    if control == "none":
        return None
    if spec is None:
        raise ValueError(f"control {control!r} needs a backbone")
    from backbones import block

    layer = spec.layer if layer is None else layer
    if control == "stand-in":
        return block.initialised(stand_in(spec), layer, _own_seed(spec, seed), BlockOptions(rotary=rotary))
    if control == "random":
        return block.initialised(spec, layer, _own_seed(spec, seed), BlockOptions(rotary=rotary))
    block_file = block_file or weights.find(spec, layer)
    if block_file is None:
        raise WeightsMissing(
            f"the weights of {spec.name!r}, layer {layer}, are not here; `bench weights fetch {spec.name}` gets them"
        )
    return block.from_tensors(spec, layer, weights.load(spec, block_file), BlockOptions(rotary=rotary))
