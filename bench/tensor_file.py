"""Tensors in a safetensors file, written so that it is whole or not there. Nothing in such a file is unpickled."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a file atomically, its folder made; returns its SHA-256. On failure nothing is left, and OSError raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        save_file({name: _plain(tensor) for name, tensor in tensors.items()}, draft, dict(metadata))
        with draft.open("rb") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(draft, path)
    except SafetensorError as error:  # it tells an error of the system in words alone
        raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error), str(path)) from error
    finally:
        draft.unlink(missing_ok=True)
    return sha256


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, in one piece, and with memory of its own: ZeRO's parameters are views of one buffer."""
    plain = tensor.detach().cpu().contiguous()
    return plain.clone() if plain.untyped_storage().nbytes() != plain.nbytes else plain
