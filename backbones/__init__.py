"""One frozen transformer block, from any LLM: the registry, reading one layer, and the controls.

What is imported here is light; torch comes with `backbones.block` and with `controls.build`.
"""

from backbones.controls import stand_in
from backbones.errors import UnknownBackbone
from backbones.registry import block_parameters, get, has_rotary, names

__all__ = ["UnknownBackbone", "block_parameters", "get", "has_rotary", "names", "stand_in"]
