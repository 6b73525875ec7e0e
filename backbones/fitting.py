"""Is what was found the block that the row describes? Asked before the bytes are fetched wherever that is possible."""

from __future__ import annotations

from collections.abc import Mapping

from backbones.errors import WeightsError
from backbones.spec import BackboneSpec


def check_shapes(spec: BackboneSpec, layer: int, found: Mapping[str, tuple[int, ...]], where: str) -> None:
    """WeightsError unless these are the names and shapes of the block's tensors, all of them and no others."""
    from backbones import architecture

    expected = architecture.shapes(spec, layer)
    if wrong := sorted(set(expected) ^ set(found)):
        state = "is missing" if wrong[0] in expected else "is too much"
        raise WeightsError(f"{where}: {wrong[0]} {state} in layer {layer} of {spec.name}; this is another model")
    for name, shape in expected.items():
        if found[name] != shape:
            raise WeightsError(
                f"{where}: {name} has shape {list(found[name])}, backbone {spec.name!r} needs {list(shape)}"
            )
