"""Settings of the segmenter that a study varies: every combination of their values is an arm of its own. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from bench.presets import BY_TASK
from mvl.config import SegmenterConfig

#: Setting of [model] -> the values that it takes, in their order.
Variants = Mapping[str, tuple[Any, ...]]


def check(variants: Variants) -> None:
    """ValueError names a setting that is unknown, has no value, or one value twice. Values are checked elsewhere."""
    known = SegmenterConfig.names() - BY_TASK
    for name, values in variants.items():
        if name not in known:
            raise ValueError(f"variants.{name}: unknown setting of [model]; known: {', '.join(sorted(known))}")
        if not values:
            raise ValueError(f"variants.{name}: no value is given; leave it out, or give one or more")
        told = [str(value).lower() for value in values]
        if len(set(told)) < len(told):
            raise ValueError(f"variants.{name}: {', '.join(told)}: a value is given twice")


def combinations(variants: Variants) -> list[dict[str, Any]]:
    """The cross product, the last setting varying fastest; one empty combination where nothing is varied.

    >>> combinations({"attention": ("global", "hybrid"), "fusion": ("none",)})
    [{'attention': 'global', 'fusion': 'none'}, {'attention': 'hybrid', 'fusion': 'none'}]
    """
    return [dict(zip(variants, values, strict=True)) for values in itertools.product(*variants.values())]
