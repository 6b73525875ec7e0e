"""What a search varies: `lr=1e-4..1e-2`, `layer=8,16,24`, …, and samples of it drawn at random. No torch."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bench.settings import Settings
from bench.study import StudyError

#: A sample of the space: dimension -> value.
Values = Mapping[str, Any]


class Kind(NamedTuple):
    """The setting that a dimension sets, and the type of its values. of_block: it is nothing to the baseline."""

    group: str
    setting: str
    type: type
    words: str
    of_block: bool = True


#: Every dimension. The layer is no setting: it is a part of the backbone's name.
KINDS: dict[str, Kind] = {
    "lr": Kind("train", "lr", float, "numbers, or a range such as 1e-4..1e-2", of_block=False),
    "layer": Kind("", "", int, "whole numbers such as 8,16,24"),
    "placement": Kind("model", "placement", str, "names such as after,middle"),
    "mapper_lora": Kind("model", "mapper_lora", int, "whole numbers such as 0,4,8"),
    "lora_rank": Kind("block", "lora_rank", int, "whole numbers such as 2,4,8"),
    "attention": Kind("model", "attention", str, "names such as global,hybrid", of_block=False),
}


@dataclass(frozen=True)
class Dimension:
    """One thing that is varied: between the values, or, where bounds (low, high) are given, log-uniformly in them."""

    name: str
    values: tuple[Any, ...] = ()
    bounds: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """As `--search` takes it."""
        told = "..".join(map(str, self.bounds)) if self.bounds else ",".join(map(str, self.values))
        return f"{self.name}={told}"

    @property
    def edges(self) -> tuple[Any, ...]:
        """The values, or the ends of the range: where these are good, so is everything between."""
        return self.bounds or self.values


Space = tuple[Dimension, ...]


def parse(texts: Sequence[str]) -> Space:
    """The dimensions of `--search`, each once, in the order of KINDS; StudyError says what a text should look like."""
    space = tuple(_dimension(text) for text in texts)
    names = [dimension.name for dimension in space]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StudyError(f"--search {twice[0]}: is given twice; name all its values in one, such as {twice[0]}=a,b")
    return _in_order(space)


def _in_order(space: Space) -> Space:
    return tuple(sorted(space, key=lambda dimension: list(KINDS).index(dimension.name)))


def _dimension(text: str) -> Dimension:
    name, _, told = (part.strip() for part in text.partition("="))
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise StudyError(f"--search {text}: unknown dimension {name!r}{hint} available: {', '.join(KINDS)}")
    low, dots, high = told.partition("..")
    try:
        ends = (float(low), float(high)) if dots and KINDS[name].type is float else None
        values = () if dots else tuple(KINDS[name].type(part.strip()) for part in told.split(",") if part.strip())
    except (ValueError, OverflowError):
        values, ends = (), None
    if ends:
        return Dimension(name, bounds=_rising(*ends, text))
    if not values or any(part in (math.inf, -math.inf) or part != part for part in values):
        raise StudyError(f"--search {text}: {name} takes {KINDS[name].words}")
    if len(set(values)) < len(values):
        raise StudyError(f"--search {text}: a value is given twice")
    return Dimension(name, values)


def _rising(low: float, high: float, text: str) -> tuple[float, float]:
    if not 0 < low < high < math.inf:
        hint = f"; did you mean {high:g}..{low:g}?" if 0 < high < low < math.inf else ""
        raise StudyError(f"--search {text}: a range goes from a smaller to a larger number, both above 0{hint}")
    return low, high


def default_space(has_block: bool = True) -> Space:
    """What is searched where nothing is named, for a block or for the baseline."""
    space = parse(["lr=1e-4..1e-2", "placement=after,middle", "mapper_lora=0,4,8", "attention=global,hybrid"])
    return tuple(dimension for dimension in space if has_block or not KINDS[dimension.name].of_block)


def with_layers(space: Space, layers: Sequence[int]) -> Space:
    """The space and these layers, where they are a choice: more than one."""
    return _in_order((*space, Dimension("layer", tuple(layers)))) if len(layers) > 1 else space


def size(space: Space) -> int | None:
    """How many samples differ; None where a range makes them endless."""
    return None if any(dimension.bounds for dimension in space) else math.prod(len(d.values) for d in space)


def draw(space: Space, samples: int, seed: int) -> list[dict[str, Any]]:
    """So many samples at random; of a space without a range all differ, and there are no more than it has.

    The first n are the same however many are drawn, so that a search can be made longer.
    """
    rng = np.random.default_rng([seed, len(space)])
    if size(space) is None:
        return [{dimension.name: _at_random(dimension, rng) for dimension in space} for _ in range(samples)]
    every = list(itertools.product(*(dimension.values for dimension in space)))
    names = [dimension.name for dimension in space]
    return [dict(zip(names, every[place], strict=True)) for place in rng.permutation(len(every))[:samples]]


def _at_random(dimension: Dimension, rng: np.random.Generator) -> Any:
    if dimension.bounds is None:
        return dimension.values[int(rng.integers(len(dimension.values)))]
    low, high = dimension.bounds
    value = math.exp(rng.uniform(math.log(low), math.log(high)))
    return min(max(float(f"{value:.4g}"), low), high)  # four digits: a rate that people can read and write down


def overlaid(settings: Settings, values: Values) -> Settings:
    """Settings of a study with those of a sample in their place."""
    merged = {group: dict(items) for group, items in settings.items()}
    for name, value in values.items():
        if KINDS[name].group:
            merged.setdefault(KINDS[name].group, {})[KINDS[name].setting] = value
    return merged
