"""The names of classes and channels that stand beside a CSV task, in JSON or TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.nifti import DataError


@dataclass(frozen=True)
class Named:
    """labels: the foreground classes in the order of their values 1, 2, …. Empty is what was not said."""

    labels: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    modality: str = ""
    licence: str = ""
    reference: str = ""


def read_named(table: Path) -> Named:
    """What the file beside a CSV says (`bench.data.layouts.table` tells where it is and what it holds)."""
    places = [table.with_name(f"{stem}{kind}") for stem in (f"{table.stem}.labels", "labels") for kind in _READ]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return Named()
    try:
        body = _READ[path.suffix](path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix[1:].upper()} ({error})") from error
    if not isinstance(body, dict) or not isinstance(body.get("labels"), (dict, list)):
        return Named(_labels(body, path))
    if unknown := sorted(set(body) - set(Named.__dataclass_fields__)):
        known = ", ".join(Named.__dataclass_fields__)
        raise DataError(f"{path}: unknown key {unknown[0]!r}; known: {known}")
    channels = body.get("channels", [])
    if not isinstance(channels, list):
        raise DataError(f"{path}: channels must be a list of names; found {channels!r}")
    words = {name: str(body.get(name, "")) for name in ("modality", "licence", "reference")}
    return Named(_labels(body["labels"], path), tuple(map(str, channels)), **words)


_READ = {".json": json.loads, ".toml": tomllib.loads}


def _labels(body: Any, path: Path) -> tuple[str, ...]:
    """The classes from `["a", "b"]`, `{"a": 1, "b": 2}` or `{"1": "a", "2": "b"}`; 0, the background, is left out."""
    entries = dict(enumerate(body, 1)) if isinstance(body, list) else body
    pairs = [_pair(key, value) for key, value in entries.items()] if isinstance(entries, Mapping) else [None]
    names = dict(pair for pair in pairs if pair)
    names.pop(0, None)
    if None in pairs or len({pair and pair[0] for pair in pairs}) < len(pairs) or not names:
        raise DataError(f'{path}: needs class names and values such as {{"liver": 1}}; found {body!r}')
    if sorted(names) != list(range(1, len(names) + 1)):
        found = ", ".join(map(str, sorted(names)))
        raise DataError(f"{path}: classes must be numbered 1, 2, … without a gap; found {found}")
    return tuple(names[value] for value in sorted(names))


def _pair(key: Any, value: Any) -> tuple[int, str] | None:
    """(value, name) of an entry whichever way round it is written; None if it is neither."""
    if isinstance(value, str) and str(key).isdecimal():
        return int(key), value
    return (value, key) if type(value) is int and isinstance(key, str) else None
