"""One layer out of a GGUF file, dequantised to fp32 and brought into the order that transformers uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones import registry
from backbones.errors import WeightsError, WeightsMissing
from backbones.safetensors_file import Raw
from backbones.spec import BackboneSpec

#: Field of a GGUF file, after the architecture's name -> field of Shape.
FIELDS = {
    "embedding_length": "width",
    "attention.head_count": "heads",
    "attention.head_count_kv": "kv_heads",
    "attention.key_length": "head_dim",
    "feed_forward_length": "ffn",
}


def _check_fields(reader: Any, spec: BackboneSpec, path: Path) -> None:
    family = registry.family(spec)
    field = reader.get_field("general.architecture")
    architecture = field.contents() if field else None
    if architecture not in family.architectures:
        raise WeightsError(
            f"{path}: its architecture is {architecture!r}, but backbone {spec.name!r} is read from "
            f"{' or '.join(family.architectures)}"
        )
    shape = family.shape(spec.config)
    expected = {key: getattr(shape, name) for key, name in FIELDS.items()} | {"block_count": spec.layers}
    for key, value in expected.items():
        field = reader.get_field(f"{architecture}.{key}")
        if field is not None and field.contents() != value:
            raise WeightsError(
                f"{path}: {architecture}.{key} is {field.contents()}, but backbone {spec.name!r} has {value}; "
                "this is another model"
            )


def read_layer(path: Path, spec: BackboneSpec, layer: int) -> dict[str, Raw]:
    """The tensors of one layer, under the block's own names, in fp32."""
    import gguf
    import numpy as np

    family = registry.family(spec)
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise WeightsError(f"{path}: cannot be read as GGUF ({error}); get the file again") from error
    _check_fields(reader, spec, path)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    shape = family.shape(spec.config)
    tensors: dict[str, Raw] = {}
    for own, name in family.tensors.items():
        tensor = stored.get(f"blk.{layer}.{name}")
        if tensor is None:
            raise WeightsMissing(f"{path}: has no tensor blk.{layer}.{name}")
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        array = np.ascontiguousarray(family.from_gguf(own, array, shape), dtype="<f4")
        tensors[own] = Raw("F32", array.shape, array.tobytes())
    return tensors
