"""Names -> backbones. Standard library only: listing and planning never import torch."""

from __future__ import annotations

import difflib
import importlib
import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from backbones.errors import PlugInError, UnknownBackbone
from backbones.family import Family
from backbones.spec import BackboneSpec

#: The modules of the families; each has FAMILY and ROWS.
MODULES = (
    "backbones.bert",
    "backbones.biogpt",
    "backbones.falcon",
    "backbones.gemma",
    "backbones.gemma2",
    "backbones.gpt2",
    "backbones.llama",
    "backbones.mistral",
    "backbones.opt",
    "backbones.phi3",
    "backbones.pythia",
    "backbones.qwen2",
    "backbones.qwen3",
)

#: Packages of third parties join through this group of entry points: each names a module like those above, which may
#: leave FAMILY out where its rows are of a family that is there already.
GROUP = "bench.backbones"

#: What a name may look like: it becomes part of file names.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")

#: Words that mean something else where a backbone's name may stand.
RESERVED = ("none", "package", "hub", "random")


@cache
def _catalogue() -> tuple[dict[str, BackboneSpec], dict[str, Family]]:
    rows: dict[str, BackboneSpec] = {}
    families: dict[str, Family] = {}
    for name in MODULES:
        _join(importlib.import_module(name), name, rows, families)
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        _join(_plug_in(point), _where(point), rows, families)
    return rows, families


def _plug_in(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # whatever a stranger's module may raise
        raise PlugInError(
            f"{_where(point)}: cannot be imported ({type(error).__name__}: {error}); mend or uninstall the package"
        ) from error


def _where(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "an unknown package"
    return f"entry point {point.name!r} of {package} in the group {GROUP}"


def _join(module: Any, where: str, rows: dict[str, BackboneSpec], families: dict[str, Family]) -> None:
    """Take in a module's families and rows; PlugInError for a name that is taken or that no file may have."""
    if (family := getattr(module, "FAMILY", None)) is not None:
        if family.name in families:
            raise PlugInError(f"{where}: the family name {family.name!r} is taken already")
        families[family.name] = family
    for row in getattr(module, "ROWS", ()):
        if not NAME.fullmatch(row.name) or row.name in RESERVED:
            raise PlugInError(f"{where}: the backbone name {row.name!r} does not match {NAME.pattern} or has a meaning")
        if row.name in rows:
            raise PlugInError(f"{where}: the backbone name {row.name!r} is taken already")
        if row.family not in families:
            raise PlugInError(f"{where}: {row.name!r} is of the unknown family {row.family!r}; {sorted(families)}")
        rows[row.name] = row


def names() -> list[str]:
    """Every backbone's name, sorted."""
    return sorted(_catalogue()[0])


def get(name: str) -> BackboneSpec:
    """The row of this name; UnknownBackbone, with the nearest name, if there is none."""
    rows, _ = _catalogue()
    if name in rows:
        return rows[name]
    near = difflib.get_close_matches(name.lower(), rows, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise UnknownBackbone(f"unknown backbone {name!r}{hint} available: {', '.join(names())}")


def family(spec: BackboneSpec) -> Family:
    """The family that a row belongs to."""
    families = _catalogue()[1]
    if spec.family not in families:
        raise UnknownBackbone(f"backbone {spec.name!r} is of the unknown family {spec.family!r}; {sorted(families)}")
    return families[spec.family]


def family_named(name: str) -> Family:
    """The family of this name, which a row has been found to belong to."""
    return _catalogue()[1][name]


def families() -> list[Family]:
    """Every family, in the order of their names."""
    return [found for _, found in sorted(_catalogue()[1].items())]


def has_rotary(spec: BackboneSpec) -> bool:
    """Whether the backbone tells places apart inside its block, by a rotary embedding."""
    return bool(family(spec).rotary) and not spec.config.get("alibi")


def block_parameters(spec: BackboneSpec) -> int:
    """Parameters of one block, from its sizes alone."""
    return family(spec).parameters(family(spec).shape(spec.config), spec.config)
