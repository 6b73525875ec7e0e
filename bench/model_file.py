"""A trained model on disk: what was trained and the buffers, in one safetensors file that nothing is unpickled from.

A frozen block is left out, as it is found again by its own hash or drawn again from its seed; the hash of what was left
out is kept, so that another block is not taken for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bench import tensor_file
from bench.errors import PredictionError
from results.record import SCHEMA, TrialSpec

FOLDER = "models"
#: The name of a block in a segmenter; there may be adapters at several places.
_BLOCK = re.compile(r"adapters?(\.[^.]+)?\.block")


@dataclass(frozen=True)
class Stored:
    """Where a model lies, relative to its run folder, and the file's hash and size; the record's provenance has it."""

    file: str
    sha256: str
    bytes: int


def model_path(run: Path, spec: TrialSpec) -> Path:
    """Where a trial's model belongs."""
    return Path(run) / FOLDER / f"{spec.key}.safetensors"


def save(run: Path, spec: TrialSpec, model: nn.Module) -> Stored:
    """Store a trained model atomically; its metadata are the trial's digest and the model's own `config`."""
    path = model_path(run, spec)
    left_out = _left_out(model)
    metadata = {
        "digest": spec.digest,
        "schema": str(SCHEMA),
        "config": json.dumps(asdict(model.config), sort_keys=True),  # type: ignore[call-overload]
        "left_out": _digest(left_out),
    }
    sha256 = tensor_file.write(path, _kept(model, left_out), metadata)
    return Stored(path.relative_to(run).as_posix(), sha256, path.stat().st_size)


def read_metadata(run: Path, spec: TrialSpec, stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """The model's `config` and `left_out`. PredictionError if the file is not here or not the one that was stored."""
    path = model_path(run, spec)
    if not stored or not path.is_file():
        why = "the study ran with --no-models" if not stored else f"{path} is gone, or stayed in another run folder"
        raise PredictionError(f"{spec.title}: its trained model is not here ({why}); train it again to predict with it")
    if (sha256 := tensor_file.sha256_of(path)) != stored["sha256"]:
        raise PredictionError(
            f"{path}: is not the model that was scored (sha256 {sha256[:12]} instead of {stored['sha256'][:12]}); "
            "restore it, or train the trial again"
        )
    with safe_open(path, "pt") as tensors:
        metadata = tensors.metadata() or {}
    if metadata.get("digest") != spec.digest:
        raise PredictionError(f"{path}: is of trial {metadata.get('digest')}, not of {spec.digest}")
    return {"config": json.loads(metadata["config"]), "left_out": metadata["left_out"]}


def load(run: Path, spec: TrialSpec, model: nn.Module, left_out: str) -> nn.Module:
    """Fill a model that was built alike with what was stored; PredictionError if the two do not fit."""
    path = model_path(run, spec)
    if _digest(_left_out(model)) != left_out:
        raise PredictionError(
            f"{spec.title}: the frozen block that was built is not the one it was trained with; "
            "the versions of torch and transformers in the record's provenance draw or read it as it was"
        )
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise PredictionError(f"{path}: cannot be read ({error}); train the trial again") from error
    if other := sorted(_kept(model, _left_out(model)).keys() ^ tensors.keys()):
        raise PredictionError(f"{path}: does not fit this version's model, which differs in {other[0]!r}")
    model.load_state_dict(tensors, strict=False)
    return model


def _left_out(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that are not stored: the frozen ones of the block that stands in the segmenter."""
    blocks = [adapter.block for adapter in getattr(model, "adapters", {}).values() if hasattr(adapter, "block")]
    frozen = {id(one) for block in blocks for one in block.parameters() if not one.requires_grad}
    named = model.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if id(parameter) in frozen}


def _kept(model: nn.Module, left_out: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is stored, each tensor under its first name: a block at two places is one block."""
    first = {id(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    kept = set(first.values()) - left_out.keys()
    return {name: tensor for name, tensor in model.state_dict().items() if name in kept}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names, types, shapes and bytes; empty for nothing."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest() if tensors else ""
