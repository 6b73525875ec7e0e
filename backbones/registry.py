"""Names -> backbones. Standard library only: listing and planning never import torch."""

from __future__ import annotations

import difflib
import importlib
import re
from functools import cache

from backbones.errors import UnknownBackbone
from backbones.family import Family
from backbones.spec import BackboneSpec

#: The modules of the families; each has FAMILY and ROWS. Those of third parties will join here.
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

#: What a name may look like: it becomes part of file names.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@cache
def _catalogue() -> tuple[dict[str, BackboneSpec], dict[str, Family]]:
    rows: dict[str, BackboneSpec] = {}
    families: dict[str, Family] = {}
    for module in map(importlib.import_module, MODULES):
        families[module.FAMILY.name] = module.FAMILY
        for row in module.ROWS:
            if not NAME.fullmatch(row.name):
                raise ValueError(f"{module.__name__}: the backbone name {row.name!r} does not match {NAME.pattern}")
            if row.name in rows:
                raise ValueError(f"{module.__name__}: the backbone name {row.name!r} is taken already")
            rows[row.name] = row
    return rows, families


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


def block_parameters(spec: BackboneSpec) -> int:
    """Parameters of one block, from its sizes alone."""
    return family(spec).parameters(family(spec).shape(spec.config))
