"""One layer out of a Hugging Face checkpoint: index, header, and the bytes of that layer. Never a whole model."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from backbones import registry, safetensors_file
from backbones.errors import WeightsError, WeightsMissing
from backbones.safetensors_file import Raw, Seekable
from backbones.spec import BackboneSpec

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class Checkpoint(Protocol):
    """A folder of files, here or on a server. open raises FileNotFoundError for a file that it does not have."""

    where: str

    def open(self, name: str) -> Seekable: ...


class Folder:
    """A checkpoint on this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)

    def open(self, name: str) -> Seekable:
        return (self.path / name).open("rb")


def read_json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    with closing(checkpoint.open(name)) as file:
        text = file.read()
    try:
        body = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{checkpoint.where}/{name}: not JSON ({error})") from error
    if not isinstance(body, dict):
        raise WeightsError(f"{checkpoint.where}/{name}: not a JSON table")
    return body


def _places(checkpoint: Checkpoint) -> dict[str, str]:
    """Tensor -> file. Names of files come from the checkpoint: they must not lead out of it."""
    try:
        places = read_json(checkpoint, INDEX).get("weight_map")
    except FileNotFoundError:
        return _places_of_single(checkpoint)
    if not isinstance(places, dict) or not all(isinstance(value, str) for value in places.values()):
        raise WeightsError(f"{checkpoint.where}/{INDEX}: has no table `weight_map` of tensors and files")
    for file in set(places.values()):
        if file.startswith("/") or "\\" in file or ".." in PurePosixPath(file).parts:
            raise WeightsError(f"{checkpoint.where}/{INDEX}: the file name {file!r} leads out of the checkpoint")
    return places


def _places_of_single(checkpoint: Checkpoint) -> dict[str, str]:
    try:
        with closing(checkpoint.open(SINGLE)) as file:
            return dict.fromkeys(safetensors_file.names(file, f"{checkpoint.where}/{SINGLE}"), SINGLE)
    except FileNotFoundError as error:
        raise WeightsMissing(
            f"{checkpoint.where}: neither {INDEX} nor {SINGLE} is there; what works is a Hugging Face checkpoint "
            "in the safetensors format, or a .gguf file"
        ) from error


def _check_config(checkpoint: Checkpoint, spec: BackboneSpec) -> None:
    try:
        found = read_json(checkpoint, "config.json")
    except FileNotFoundError:
        return  # the tensors' shapes are checked in any case
    from backbones import architecture

    architecture.check_config(spec, found, f"{checkpoint.where}/config.json")


def layer_names(spec: BackboneSpec, layer: int, tensors: list[str]) -> dict[str, str]:
    """The checkpoint's names of one layer's tensors -> the block's own; empty if there are none."""
    family = registry.family(spec)
    for prefix in (pattern.format(i=layer) for pattern in family.prefixes):
        found = {name: name[len(prefix) :] for name in tensors if name.startswith(prefix)}
        if found:
            return {name: own for name, own in found.items() if own not in family.ignored}
    return {}


def read_layer(checkpoint: Checkpoint, spec: BackboneSpec, layer: int) -> dict[str, Raw]:
    """The tensors of one layer, under the block's own names; only the files that hold them are opened."""
    _check_config(checkpoint, spec)
    places = _places(checkpoint)
    wanted = layer_names(spec, layer, list(places))
    if not wanted:
        raise WeightsMissing(
            f"{checkpoint.where}: no tensors of layer {layer} under "
            f"{', '.join(registry.family(spec).prefixes)}; is this a checkpoint of {spec.repo}?"
        )
    shards: dict[str, dict[str, str]] = defaultdict(dict)
    for name, own in wanted.items():
        shards[places[name]][name] = own
    tensors: dict[str, Raw] = {}
    for shard, part in shards.items():
        try:
            file = checkpoint.open(shard)
        except FileNotFoundError as error:
            raise WeightsMissing(f"{checkpoint.where}: the shard {shard} of layer {layer} is missing") from error
        with closing(file):
            tensors |= safetensors_file.read(file, f"{checkpoint.where}/{shard}", part)
    return tensors
