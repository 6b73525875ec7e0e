"""The safetensors format at the level of bytes: read some tensors of a file and leave the rest unread.

Layout: eight bytes with the header's length, a JSON header {name: {dtype, shape, data_offsets}}, the data.
Source: https://huggingface.co/docs/safetensors. The library itself reads local files only; this also reads
what a server sends by ranges.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from backbones.byte_source import ByteSource
from backbones.errors import WeightsError

#: Bytes of one element. Types with less than a byte an element are not read.
ELEMENT = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class Raw:
    """A tensor as bytes, little-endian, with its dtype as safetensors spells it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: start and end count from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def _entry(tensor: str, raw: Any, base: int, name: str) -> Entry:
    try:
        (start, end), dtype, shape = raw["data_offsets"], raw["dtype"], tuple(raw["shape"])
        whole = all(type(number) is int and number >= 0 for number in (start, end, *shape))
        sound = whole and end - start == prod(shape) * ELEMENT.get(dtype, 0)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{name}: the header's entry {tensor!r} cannot be read ({error!r})") from error
    if dtype not in ELEMENT:
        raise WeightsError(f"{name}: {tensor} is quantised ({dtype}); what works: a checkpoint in bf16, fp16 or fp32")
    if not sound:
        raise WeightsError(f"{name}: the header's entry {tensor!r} does not match its own shape")
    return Entry(dtype, shape, base + start, base + end)


def header(source: ByteSource, name: str) -> tuple[dict[str, Any], int]:
    """The JSON header as it stands, and where the data begins; WeightsError, with the file's name, if damaged."""
    length = int.from_bytes(source.take(0, 8), "little")
    if length > min(HEADER_LIMIT, source.size - 8):
        raise WeightsError(f"{name}: not a safetensors file, or only its beginning (a header of {length} bytes)")
    text = source.take(8, length)
    try:
        body = json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name}: the safetensors header is damaged ({error})") from error
    if not isinstance(body, dict):
        raise WeightsError(f"{name}: the safetensors header is no table")
    return body, 8 + length


def entries(source: ByteSource, name: str, wanted: Collection[str] | None = None) -> dict[str, Entry]:
    """Where the wanted tensors lie, or all of them; WeightsError if one is missing or lies outside of the file."""
    body, base = header(source, name)
    wanted = body.keys() - {"__metadata__"} if wanted is None else wanted
    if missing := sorted(set(wanted) - body.keys()):
        raise WeightsError(f"{name}: has no tensor {missing[0]!r}, though the index says so")
    found = {tensor: _entry(tensor, body[tensor], base, name) for tensor in wanted}
    needed = max((entry.end for entry in found.values()), default=base)
    if needed > source.size:
        raise WeightsError(f"{name}: ends too early ({needed} bytes needed, {source.size} there); get the file again")
    return found


def _runs(wanted: Mapping[str, Entry]) -> Iterator[list[tuple[str, Entry]]]:
    """The tensors in order of place, those that touch each other together: one read, or one request, a run."""
    run: list[tuple[str, Entry]] = []
    for item in sorted(wanted.items(), key=lambda pair: (pair[1].start, pair[1].end)):
        if run and item[1].start != run[-1][1].end:
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def read(source: ByteSource, wanted: Mapping[str, Entry]) -> dict[str, Raw]:
    """These tensors, as views of one buffer a run; nothing between the runs is read."""
    found: dict[str, Raw] = {}
    for run in _runs(wanted):
        first = run[0][1].start
        data = source.take(first, run[-1][1].end - first)
        for tensor, entry in run:
            found[tensor] = Raw(entry.dtype, entry.shape, data[entry.start - first : entry.end - first])
    return found


def digest(tensors: Mapping[str, Raw]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in order of the names: the same wherever the tensors lie."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        state.update(tensor.data)
    return state.hexdigest()


def write(path: Path, tensors: Mapping[str, Raw], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, its data aligned to eight bytes as the format wants."""
    body: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + len(tensor.data)
        body[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(body, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.data)
