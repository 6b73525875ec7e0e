"""One layer out of a Hugging Face checkpoint: index, header, and the bytes of that layer. Never a whole model."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import ExitStack, closing
from pathlib import PurePosixPath
from typing import Any

from backbones import fitting, registry, shards
from backbones.errors import WeightsError, WeightsMissing
from backbones.safetensors_file import Raw
from backbones.shards import Checkpoint
from backbones.spec import BackboneSpec

#: An index over several files, and the one file without an index. The first that is there is taken.
LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin"),
)


def read_json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """A JSON table of the checkpoint; FileNotFoundError if it is not there, WeightsError if it is none."""
    text = checkpoint.text(name)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{checkpoint.where}/{name}: not JSON ({error})") from error
    if not isinstance(body, dict):
        raise WeightsError(f"{checkpoint.where}/{name}: not a JSON table")
    return body


def _indexed(checkpoint: Checkpoint, index: str) -> dict[str, str]:
    """Tensor -> file. Names of files come from the checkpoint: they must not lead out of it."""
    places = read_json(checkpoint, index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(value, str) for value in places.values()):
        raise WeightsError(f"{checkpoint.where}/{index}: has no table `weight_map` of tensors and files")
    for file in set(places.values()):
        if file.startswith("/") or "\\" in file or ".." in PurePosixPath(file).parts:
            raise WeightsError(f"{checkpoint.where}/{index}: the file name {file!r} leads out of the checkpoint")
    return places


def _places(checkpoint: Checkpoint) -> dict[str, str]:
    for index, single in LAYOUTS:
        try:
            return _indexed(checkpoint, index)
        except FileNotFoundError:
            # Small checkpoints are one file, and have no index.
            try:
                return dict.fromkeys(shards.names(checkpoint, single), single)
            except FileNotFoundError:
                continue
    raise WeightsMissing(
        f"{checkpoint.where}: neither {' nor '.join(file for layout in LAYOUTS for file in layout)} is there; "
        "what works: a Hugging Face checkpoint as safetensors or pytorch_model.bin, or a .gguf file"
    )


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


def _by_file(checkpoint: Checkpoint, spec: BackboneSpec, layer: int) -> dict[str, dict[str, str]]:
    """File -> the layer's tensors in it -> the block's own names of them."""
    places = _places(checkpoint)
    wanted = layer_names(spec, layer, list(places))
    if not wanted:
        raise WeightsMissing(
            f"{checkpoint.where}: no tensors of layer {layer} under "
            f"{', '.join(registry.family(spec).prefixes)}; is this a checkpoint of {spec.repo}?"
        )
    files: dict[str, dict[str, str]] = defaultdict(dict)
    for name, own in wanted.items():
        files[places[name]][name] = own
    return files


def read_layer(checkpoint: Checkpoint, spec: BackboneSpec, layer: int) -> dict[str, Raw]:
    """The tensors of one layer, under the block's own names; only the files that hold them are opened.

    WeightsMissing if they are not there, WeightsError if something is damaged, or of another model than the row's.
    """
    _check_config(checkpoint, spec)
    files = _by_file(checkpoint, spec, layer)
    with ExitStack() as stack:
        opened = {}
        for file, part in files.items():
            try:
                opened[file] = stack.enter_context(closing(shards.open_shard(checkpoint, file, part)))
            except FileNotFoundError as error:
                raise WeightsMissing(f"{checkpoint.where}: the shard {file} of layer {layer} is missing") from error
        shapes = {own: opened[file].shapes[name] for file, part in files.items() for name, own in part.items()}
        fitting.check_shapes(spec, layer, shapes, checkpoint.where)
        for shard in opened.values():
            shard.announce()
        return {files[file][name]: raw for file, shard in opened.items() for name, raw in shard.read().items()}
