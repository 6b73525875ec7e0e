"""One block in the cache: a safetensors file with its hash, and where it came from, in its metadata.

Reading the header needs no torch. Many processes may read; who writes holds the lock, and only then renames.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from backbones import safetensors_file
from backbones.byte_source import LocalFile, MappedFile
from backbones.errors import WeightsError, WeightsMissing
from backbones.safetensors_file import Raw
from backbones.spec import BackboneSpec

CHUNK = 1 << 22
#: The name of a block's file: backbone, layer, and a mark where it was kept apart from the row's own.
NAME = re.compile(r"(?P<backbone>.+?)-(?P<layer>\d+)(-[0-9a-f]{12})?\.safetensors")


@dataclass(frozen=True)
class Origin:
    """Where tensors were read: in words, and as repository and commit where there is one."""

    words: str
    repo: str = ""
    commit: str = ""


@dataclass(frozen=True)
class BlockFile:
    """A block in the cache. sha256 is the hash of its tensors, source where they were read, with commit or hash.

    repo and commit are empty where the block did not come from a hub.
    """

    path: Path
    layer: int
    sha256: str
    source: str
    licence: str
    backbone: str = ""
    repo: str = ""
    commit: str = ""


def cache_dir() -> Path:
    """The suite's cache: BENCH_CACHE, else frozen-block-bench in XDG_CACHE_HOME, else in ~/.cache."""
    if given := os.environ.get("BENCH_CACHE"):
        return Path(given).expanduser().absolute()  # workers stand in another folder
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frozen-block-bench"


def folder() -> Path:
    """Where the blocks lie."""
    return cache_dir() / "blocks"


def path_of(spec: BackboneSpec, layer: int, apart_from: str = "") -> Path:
    """The file of a block; that of another source than the row's, if apart_from names one."""
    mark = f"-{hashlib.sha256(apart_from.encode()).hexdigest()[:12]}" if apart_from else ""
    return folder() / f"{spec.name}-{layer}{mark}.safetensors"


def titled(name: str, layer: int, usual: int | None = None) -> str:
    """A block as users name it: `llama3@8`, or `llama3` alone for the layer that the row uses."""
    return name if layer == usual else f"{name}@{layer}"


def damaged(path: Path, name: str, why: str) -> WeightsError:
    """The error for a file that is not what it should be."""
    return WeightsError(f"{path}: the block file is damaged ({why}); `bench weights fetch {name}` makes it anew")


def read_header(path: Path, name: str) -> BlockFile:
    """What the file says of itself; WeightsError if its header is damaged, or its size is not the header's."""
    with closing(LocalFile(path)) as file:
        try:
            body, base = safetensors_file.header(file, str(path))
            meta = body["__metadata__"]
            size = base + max(entry["data_offsets"][1] for key, entry in body.items() if key != "__metadata__")
            origin = (meta.get("repo", ""), meta.get("commit", ""))
            block = BlockFile(
                path, int(meta["layer"]), meta["sha256"], meta["source"], meta["licence"], meta["backbone"], *origin
            )
        except (WeightsError, KeyError, TypeError, ValueError) as error:
            raise damaged(path, name, str(error)) from error
    if file.size != size:
        raise damaged(path, name, f"{file.size} of {size} bytes")
    return block


def _tensors(path: Path) -> dict[str, Raw]:
    with closing(LocalFile(path)) as file:
        return safetensors_file.read(file, safetensors_file.entries(file, str(path)))


def read(block: BlockFile, name: str) -> dict[str, Raw]:
    """The tensors, read once; WeightsError if these very bytes do not have the hash that the file records."""
    try:
        tensors = _tensors(block.path)
    except FileNotFoundError as error:
        raise WeightsMissing(f"{block.path}: gone; `bench weights fetch {name}` makes it anew") from error
    except WeightsError as error:
        raise damaged(block.path, name, str(error)) from error
    found = safetensors_file.digest(tensors)
    if found != block.sha256:
        raise damaged(block.path, name, f"sha256 {found[:12]} instead of {block.sha256[:12]}")
    return tensors


def _same(path: Path, tensors: Mapping[str, Raw]) -> bool:
    """Whether the file holds these bytes; compared piece by piece, so that memory does not grow by a second block."""
    import numpy as np

    with closing(MappedFile(path)) as file:
        entries = safetensors_file.entries(file, str(path))
        for name, raw in tensors.items():
            start, data = entries[name].start, np.frombuffer(raw.data, np.uint8)
            for place in range(0, len(data), CHUNK):
                piece = data[place : place + CHUNK]
                if not np.array_equal(piece, np.frombuffer(file.take(start + place, len(piece)), np.uint8)):
                    return False
    return True


def write(
    path: Path, draft: Path, spec: BackboneSpec, layer: int, tensors: Mapping[str, Raw], origin: Origin
) -> BlockFile:
    """Write, read back, compare, and only then give the file its name. draft lies on the same disk."""
    sha256 = safetensors_file.digest(tensors)
    block = BlockFile(path, layer, sha256, origin.words, spec.licence, spec.name, origin.repo, origin.commit)
    metadata = {
        "backbone": spec.name,
        "family": spec.family,
        "layer": str(layer),
        "source": origin.words,
        "repo": origin.repo,
        "commit": origin.commit,
        "licence": spec.licence,
        "sha256": sha256,
    }
    try:
        safetensors_file.write(draft, tensors, metadata)
        if not _same(draft, tensors):
            raise WeightsError(f"{draft}: what was written is not what was read back; is the disk sound?")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return block
