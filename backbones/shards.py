"""The files of a checkpoint that hold tensors: safetensors, or pickles of torch. One contract for both."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backbones import safetensors_file
from backbones.byte_source import ByteSource, MappedFile
from backbones.errors import WeightsError
from backbones.safetensors_file import Raw

if TYPE_CHECKING:
    from torch import Tensor


class Checkpoint(Protocol):
    """A folder of files, here or on a server. All three raise FileNotFoundError for a file that it does not have."""

    where: str

    def text(self, name: str) -> bytes: ...

    def open(self, name: str) -> ByteSource: ...

    def whole(self, name: str) -> Path: ...


class Folder:
    """A checkpoint on this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)

    def text(self, name: str) -> bytes:
        """A small file's content."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise WeightsError(f"{self.path / name}: cannot be read ({error.strerror})") from error

    def open(self, name: str) -> ByteSource:
        """A file of which parts are taken."""
        return MappedFile(self.path / name)

    def whole(self, name: str) -> Path:
        """A file of which all is needed."""
        if not (self.path / name).is_file():
            raise FileNotFoundError(self.path / name)
        return self.path / name


class Shard(Protocol):
    """The wanted tensors of one file. shapes come first, announce tells how much read is going to take."""

    shapes: dict[str, tuple[int, ...]]

    def announce(self) -> None: ...

    def read(self) -> dict[str, Raw]: ...

    def close(self) -> None: ...


class SafetensorsShard:
    """Of a safetensors file only the header and the wanted tensors are read."""

    def __init__(self, source: ByteSource, name: str, wanted: Collection[str]) -> None:
        self.source = source
        self.entries = safetensors_file.entries(source, name, wanted)
        self.shapes = {tensor: entry.shape for tensor, entry in self.entries.items()}

    def announce(self) -> None:
        """Tell the source what is coming."""
        self.source.expect(sum(entry.end - entry.start for entry in self.entries.values()))

    def read(self) -> dict[str, Raw]:
        """The tensors, one read a contiguous run."""
        return safetensors_file.read(self.source, self.entries)

    def close(self) -> None:
        """Close the file."""
        self.source.close()


class TorchShard:
    """Of a pickle on this disk only the storages of the wanted tensors are read."""

    def __init__(self, path: Path, name: str, wanted: Collection[str]) -> None:
        from backbones import torch_file

        self.tensors: dict[str, Tensor] = torch_file.tensors(path, name, wanted)
        self.shapes = {tensor: tuple(value.shape) for tensor, value in self.tensors.items()}

    def announce(self) -> None:
        """Nothing is coming: the file is here."""

    def read(self) -> dict[str, Raw]:
        """The tensors, copied out of the file."""
        from backbones.torch_bytes import as_raw

        return {tensor: as_raw(value) for tensor, value in self.tensors.items()}

    def close(self) -> None:
        """Let go of the map."""
        self.tensors = {}


def open_shard(checkpoint: Checkpoint, file: str, wanted: Collection[str]) -> Shard:
    """The wanted tensors of a file; FileNotFoundError if it is not there, WeightsError if it is damaged."""
    name = f"{checkpoint.where}/{file}"
    if not file.endswith(".safetensors"):
        return TorchShard(checkpoint.whole(file), name, wanted)
    source = checkpoint.open(file)
    try:
        return SafetensorsShard(source, name, wanted)
    except BaseException:
        source.close()
        raise


def names(checkpoint: Checkpoint, file: str) -> list[str]:
    """The tensors that a file has: of safetensors by the header alone."""
    if not file.endswith(".safetensors"):
        from backbones import torch_file

        return list(torch_file.tensors(checkpoint.whole(file), f"{checkpoint.where}/{file}"))
    with closing(checkpoint.open(file)) as source:
        body, _ = safetensors_file.header(source, f"{checkpoint.where}/{file}")
        return [tensor for tensor in body if tensor != "__metadata__"]
