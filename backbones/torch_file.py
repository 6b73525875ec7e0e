"""Tensors out of a `pytorch_model.bin`: a pickle, so it is read with weights_only and nothing of it is executed."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from backbones.errors import WeightsError


def tensors(path: Path, name: str, wanted: Collection[str] | None = None) -> dict[str, Tensor]:
    """The wanted tensors, or all; a map of the file, so that only those that are copied are read.

    WeightsError if the file is damaged, lacks one, or holds more than weights.
    """
    # Files from before torch 1.6 are no zip archives. They cannot be mapped, only read as a whole.
    mapped = zipfile.is_zipfile(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        raise WeightsError(
            f"{name}: refused, as it is damaged or holds more than weights and reading it would run code of its own; "
            "what works: the same checkpoint as safetensors, or a .gguf file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{name}: cannot be read ({_first_line(error)}); get the file again") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{name}: holds a {type(state).__name__}, not a table of tensors")
    found = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if missing := sorted(set(found if wanted is None else wanted) - found.keys()):
        raise WeightsError(f"{name}: has no tensor {missing[0]!r}, though the index says so")
    return found if wanted is None else {key: found[key] for key in wanted}


def _first_line(error: Exception) -> str:
    """torch adds advice about its own options from the second line on, and says nothing where a file just ends."""
    return next(iter(str(error).splitlines()), type(error).__name__)
