"""The header of a GGUF file: settings, and where each tensor lies. Standard library only.

The reader that comes with gguf makes an array of every token of the vocabulary, which takes seconds; here arrays are
stepped over. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

#: Type of a value -> its struct format: integers and floats, all but strings (8) and arrays (9).
SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
STRING, ARRAY = 8, 9
UINT32, UINT64 = 4, 10
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32


class GgufError(ValueError):
    """Not a GGUF file, or a damaged one."""


@dataclass(frozen=True)
class Stored:
    """A tensor: ggml's number of its type, its shape in numpy's order, and where it starts in the file."""

    kind: int
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Header:
    """fields has the settings that are no arrays."""

    fields: dict[str, Any]
    tensors: dict[str, Stored]


class _Cursor:
    """A place in the file that moves on with each value."""

    def __init__(self, data: mmap) -> None:
        self.data, self.place = data, 0

    def scalar(self, kind: int) -> Any:
        layout = struct.Struct("<" + SCALARS[kind])
        (value,) = layout.unpack_from(self.data, self.place)
        self.place += layout.size
        return value

    def string(self) -> str:
        size = self.scalar(UINT64)
        text = self.data[self.place : self.place + size]
        if len(text) != size:
            raise GgufError("it ends within a name")
        self.place += size
        return text.decode()

    def step_over(self) -> None:
        """Pass an array. Only strings must be walked through, as each has a length of its own."""
        kind, count = self.scalar(UINT32), self.scalar(UINT64)
        if kind in SCALARS:
            self.place += count * struct.calcsize("<" + SCALARS[kind])
        elif kind == STRING:
            length, place, data = struct.Struct("<Q").unpack_from, self.place, self.data
            for _ in range(count):
                place += 8 + length(data, place)[0]
            self.place = place
        else:
            raise GgufError(f"an array of the unknown type {kind}")


def _fields(cursor: _Cursor, count: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for _ in range(count):
        name, kind = cursor.string(), cursor.scalar(UINT32)
        if kind == ARRAY:
            cursor.step_over()
        elif kind == STRING:
            fields[name] = cursor.string()
        elif kind in SCALARS:
            fields[name] = cursor.scalar(kind)
        else:
            raise GgufError(f"{name} is of the unknown type {kind}")
    return fields


def _tensors(cursor: _Cursor, count: int) -> dict[str, Stored]:
    """The tensors, their starts counted from the beginning of the data."""
    tensors: dict[str, Stored] = {}
    for _ in range(count):
        name, dimensions = cursor.string(), cursor.scalar(UINT32)
        shape = tuple(cursor.scalar(UINT64) for _ in range(dimensions))
        tensors[name] = Stored(cursor.scalar(UINT32), shape[::-1], cursor.scalar(UINT64))
    return tensors


def _parsed(data: mmap) -> Header:
    cursor = _Cursor(data)
    if data[:4] != b"GGUF":
        raise GgufError("it does not begin with GGUF")
    cursor.place = 4
    version, count, settings = cursor.scalar(UINT32), cursor.scalar(UINT64), cursor.scalar(UINT64)
    if version not in VERSIONS:
        raise GgufError(f"version {version}, or another byte order; versions {VERSIONS} are known, little-endian")
    fields = _fields(cursor, settings)
    tensors = _tensors(cursor, count)
    alignment = fields.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise GgufError(f"general.alignment is {alignment!r}")
    base = -(-cursor.place // alignment) * alignment
    return Header(fields, {name: Stored(at.kind, at.shape, base + at.start) for name, at in tensors.items()})


def read(path: Path) -> Header:
    """Settings and places of tensors; GgufError if the file is none, or damaged."""
    with path.open("rb") as file:
        try:
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                return _parsed(data)
        except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
            raise GgufError(str(error)) from error
