"""Reference models: known architectures that are trained in the same loop, on the same crops and budget.

They have no place for a block and are no control of one: they say what the task and the budget allow. Names are cheap,
and nothing here imports torch; a builder, and MONAI with it, is imported when a model is built.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvl.config import SegmenterConfig
    from mvl.references.fitted import Fitted


@dataclass(frozen=True)
class Reference:
    """A row of the registry; the module `mvl.references.<name>` has its `build(config, features)`.

    features is the number of channels at full resolution, from which all others follow: `published` is that of the
    source, `small` what a CPU can train, and either is a multiple of `of`. reads are the segmenter's settings that the
    model takes beside crop and patch.
    """

    name: str
    title: str
    source: str
    published: int
    small: int
    of: int = 1
    reads: tuple[str, ...] = ()


REGISTRY = {
    reference.name: reference
    for reference in (
        Reference("dynunet", "DynUNet (nnU-Net's architecture)", "Isensee et al. 2021", 32, 8),
        Reference("segresnet", "SegResNet", "arXiv 1810.11654", 32, 8, of=8),
        Reference("swinunetr", "SwinUNETR", "arXiv 2201.01266", 48, 12, of=12),
        Reference(
            *("unetr", "UNETR, around the preset's ViT", "arXiv 2103.10504", 16, 16),
            reads=("width", "depth", "heads", "mlp_ratio", "dropout"),
        ),
    )
}


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The names asked for, each once; `all` is every one. ValueError, with the nearest name, for an unknown one."""
    found: dict[str, None] = {}
    for name in names:
        if name not in ("all", *REGISTRY):
            near = difflib.get_close_matches(name, REGISTRY, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ValueError(f"unknown reference {name!r}{hint} available: all, {', '.join(REGISTRY)}")
        found |= dict.fromkeys(REGISTRY if name == "all" else (name,))
    return tuple(found)


def features(small: bool) -> dict[str, int]:
    """Every reference's features: those of the sources, or what a CPU can train."""
    return {name: row.small if small else row.published for name, row in REGISTRY.items()}


def check(values: Mapping[str, int]) -> None:
    """ValueError if one of these features cannot be built."""
    for name, value in values.items():
        step = REGISTRY[name].of
        if value < 1 or value % step:
            raise ValueError(f"reference.{name}: {value!r} is not a positive multiple of {step}")


def model_settings(name: str, model: Mapping[str, Any], values: Mapping[str, int]) -> dict[str, Any]:
    """What decides the reference's numbers, of a resolved preset: the segmenter's crop, what it reads, its features."""
    shared = ("image", "patch", *REGISTRY[name].reads)
    return {key: model[key] for key in shared} | {"features": values[name]}


def build(name: str, config: SegmenterConfig, features: int) -> Fitted:
    """The model, drawn from torch's generator as it stands. (B, C, X, Y, Z) to logits (B, K, X, Y, Z), any size."""
    return importlib.import_module(f"{__name__}.{name}").build(config, features)
