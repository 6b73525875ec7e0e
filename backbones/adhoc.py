"""A row made on the spot, from the configuration of a checkpoint that the registry does not know."""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones import checkpoint, hub, hub_cache, registry
from backbones.block_file import cache_dir
from backbones.errors import WeightsError, WeightsMissing
from backbones.family import DECISIVE, Family
from backbones.shards import Checkpoint, Folder
from backbones.spec import BackboneSpec

#: What the licence column says of a checkpoint whose licence nobody has looked up.
LICENCE = "not stated: see the checkpoint"

#: What the row takes over: what decides a block, what some rotary embeddings are scaled by, and how wide the values are
#: that its random twin is drawn from.
_KEPT = (*DECISIVE, "max_position_embeddings", "original_max_position_embeddings", "initializer_range", "init_std")


def of_path(path: Path) -> BackboneSpec:
    """The row of a folder with a Hugging Face checkpoint, or of a .gguf file. WeightsError, WeightsMissing."""
    if path.suffix == ".gguf":
        return _spec(path.stem, _gguf_settings(path), str(path), repo="")
    return _spec(path.resolve().name, _config(Folder(path)), str(path), repo="")


def of_repository(repo: str) -> BackboneSpec:
    """The row of a repository on the hub: its config.json alone is read. WeightsError, WeightsMissing."""
    name = repo.rpartition("/")[2]
    if (snapshot := hub_cache.snapshot(repo, "main")) and (snapshot[0] / "config.json").is_file():
        return _spec(name, _config(Folder(snapshot[0])), str(snapshot[0]), repo=repo)
    kept = cache_dir() / "configs" / f"{repo.replace('/', '--')}.json"
    if hub.offline() and kept.is_file():
        return _spec(name, json.loads(kept.read_text()), f"{hub.endpoint()}/{repo}", repo=repo)
    with tempfile.TemporaryDirectory(prefix="bench-config-") as parts:
        repository = hub.Repository(repo, "main", name, Path(parts), lambda line: None)
        found = _config(repository)
        spec = _spec(name, found, repository.where, repo=repo)
    _keep(kept, found)  # so that its block, once fetched, is found without a network
    return spec


def _keep(path: Path, config: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as draft:
        json.dump(config, draft)
    os.replace(draft.name, path)


def _config(source: Checkpoint) -> dict[str, Any]:
    try:
        return checkpoint.read_json(source, "config.json")
    except FileNotFoundError as error:
        raise WeightsMissing(
            f"{source.where}: has no config.json, which says what model it is; give a whole Hugging Face checkpoint, "
            "or name the backbone and pass its weights with --weights NAME=PATH"
        ) from error


def _gguf_settings(path: Path) -> dict[str, Any]:
    """The file's metadata as transformers translates them into a configuration."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    try:
        return load_gguf_checkpoint(str(path), return_tensors=False)["config"]
    except (ValueError, IndexError, KeyError, NotImplementedError) as error:
        raise WeightsError(f"{path}: cannot be read as GGUF of a known architecture ({error})") from error


def _spec(name: str, found: Mapping[str, Any], where: str, repo: str) -> BackboneSpec:
    settings = dict(found.get("text_config") or found)
    family, configuration = _family(settings.get("model_type"), where)
    try:
        full = configuration.from_dict(settings)
    except Exception as error:  # the libraries raise what they like for a value that does not fit
        raise WeightsError(f"{where}: its configuration cannot be read ({error})") from error
    kept = {key: value for key, value in full.to_dict().items() if key in _KEPT and value is not None}
    return BackboneSpec(
        name=_free_name(name),
        family=family.name,
        repo=repo,
        width=family.shape(kept).width,
        layers=full.num_hidden_layers,
        layer=full.num_hidden_layers - 1,
        licence=LICENCE,
        config=kept,
        source=f"configuration of {where}",
    )


def _family(kind: Any, where: str) -> tuple[Family, Any]:
    """The family whose configuration class has this model_type, and the class."""
    known = {}
    for family in registry.families():
        module = importlib.import_module(family.module.replace(".modeling_", ".configuration_"))
        known[getattr(module, family.configuration).model_type] = (family, getattr(module, family.configuration))
    if kind not in known:
        raise WeightsError(f"{where}: model_type is {kind!r}; what can be plugged in: {', '.join(sorted(known))}")
    return known[kind]


def _free_name(name: str) -> str:
    """A name that fits into a path and that no row of the registry has."""
    safe = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-") or "checkpoint"
    return f"{safe}-given" if safe in (*registry.names(), *registry.RESERVED) else safe
