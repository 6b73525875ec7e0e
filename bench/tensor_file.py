"""Tensors in a safetensors file, written so that it is whole or not there. Nothing in such a file is unpickled."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a file atomically, its folder made; returns its SHA-256. On failure nothing is left, and OSError raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        save_file({name: _plain(tensor) for name, tensor in tensors.items()}, draft, dict(metadata))
        with draft.open("r+b") as file:
            _put_in_order(file)
            os.fsync(file.fileno())
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(draft, path)
    except SafetensorError as error:  # it tells an error of the system in words alone
        raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error), str(path)) from error
    finally:
        draft.unlink(missing_ok=True)
    return sha256


def _put_in_order(file: BinaryIO) -> None:
    """The library writes metadata in an order that differs from time to time; a file is to be known by its hash."""
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= size, "the same entries are as long in any order"
    file.seek(8)
    file.write(text.ljust(size))
    file.flush()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, in one piece, and with memory of its own: ZeRO's parameters are views of one buffer."""
    plain = tensor.detach().cpu().contiguous()
    return plain.clone() if plain.untyped_storage().nbytes() != plain.nbytes else plain
