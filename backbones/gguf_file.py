"""One layer out of a GGUF file, dequantised to fp32 and brought into the order that transformers uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones import fitting, gguf_header, registry
from backbones.errors import WeightsError, WeightsMissing
from backbones.gguf_header import GgufError, Header, Stored
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


def _check_fields(header: Header, spec: BackboneSpec, path: Path) -> None:
    family = registry.family(spec)
    architecture = header.fields.get("general.architecture")
    if architecture not in family.architectures:
        raise WeightsError(
            f"{path}: its architecture is {architecture!r}, but backbone {spec.name!r} is read from "
            f"{' or '.join(family.architectures)}"
        )
    shape = family.shape(spec.config)
    expected = {key: getattr(shape, name) for key, name in FIELDS.items()} | {"block_count": spec.layers}
    for key, value in expected.items():
        found = header.fields.get(f"{architecture}.{key}", value)
        if found != value:
            raise WeightsError(
                f"{path}: {architecture}.{key} is {found}, but backbone {spec.name!r} has {value}; "
                "this is another model"
            )


def _dequantised(path: Path, name: str, stored: Stored) -> Any:
    """A tensor in fp32, in the shape that GGUF has it in; its bytes are the only ones that are read."""
    import gguf
    import numpy as np

    try:
        kind = gguf.GGMLQuantizationType(stored.kind)
        shape = gguf.quants.quant_shape_to_byte_shape(stored.shape, kind)
        data = np.memmap(path, np.uint8, "r", stored.start, shape)
        return gguf.quants.dequantize(data, kind)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise WeightsError(
            f"{path}: cannot be read as GGUF ({name}: {error}); get the file again, or one in Q8_0"
        ) from error


def read_layer(path: Path, spec: BackboneSpec, layer: int) -> dict[str, Raw]:
    """The tensors of one layer, under the block's own names, in fp32.

    Bit-identical to what transformers makes of the file. WeightsMissing if the layer is not in it, WeightsError if
    the file is damaged or of another model.
    """
    import numpy as np

    family = registry.family(spec)
    if not family.tensors or not family.architectures:
        raise WeightsError(
            f"{path}: backbones of the family {family.name!r} are not read from GGUF; what works: a folder with a "
            f"Hugging Face checkpoint, or a hub repository such as {spec.repo}"
        )
    try:
        header = gguf_header.read(path)
    except GgufError as error:
        raise WeightsError(f"{path}: cannot be read as GGUF ({error}); get the file again") from error
    _check_fields(header, spec, path)
    shape = family.shape(spec.config)
    tensors: dict[str, Raw] = {}
    for own, name in family.tensors.items():
        stored = header.tensors.get(f"blk.{layer}.{name}")
        if stored is None:
            raise WeightsMissing(f"{path}: has no tensor blk.{layer}.{name}")
        array = family.from_gguf(own, _dequantised(path, name, stored), shape)
        array = np.array(array, dtype="<f4", order="C")  # a copy: it may be a map of the file
        tensors[own] = Raw("F32", array.shape, array.data.cast("B"))
    fitting.check_shapes(spec, layer, {own: raw.shape for own, raw in tensors.items()}, str(path))
    return tensors
