"""What flags take, and the flags of a study: defaults, then the TOML file, then flags."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.presets import PRESETS, parse_override
from bench.study import StudyError, StudySpec, load

#: Flags that are short for one setting.
SHORT = {
    "steps": ("train", "steps"),
    "rotary": ("block", "rotary"),
    "causal": ("block", "causal"),
    "block_dtype": ("block", "dtype"),
    "mapper_lora": ("model", "mapper_lora"),
}


class Names(click.ParamType):
    """Comma-separated names."""

    name = "a,b,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        parts = value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(","))
        return tuple(part for part in parts if part)


class Numbers(click.ParamType):
    """Comma-separated whole numbers."""

    name = "0,1,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return value if isinstance(value, tuple) else tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 0,1,2", param, ctx)


STUDY_OPTIONS = [
    click.option("--study", type=click.Path(path_type=Path), help="A TOML file with these options; flags win."),
    click.option(
        "--backbones",
        type=Names(),
        metavar="NAME[@LAYER,…],…",
        help="Names from `bench list backbones`, checkpoint folders, .gguf files or hub repositories; `none` is the "
        "baseline alone. NAME@8,16 takes these layers instead of the last.",
    ),
    click.option(
        "--controls",
        type=Names(),
        help="What stands beside each block: standard (its frozen random twin) [standard], all, or names: "
        "random, shuffled, identity, mlp, depth, trainable, lora; none for the baseline alone.",
    ),
    click.option("--data", help="Folder with MSD-layout tasks. Left out: the phantom decathlon."),
    click.option("--tasks", type=Names(), help="Task names; all in the data folder when left out."),
    click.option("--seeds", type=Numbers(), help="Seeds [0]."),
    click.option("--folds", type=Numbers(), help="Folds of the cross-validation, from 0 [0]."),
    click.option("--preset", type=click.Choice(list(PRESETS)), help="Sizes and training [cpu]."),
    click.option(
        "--weights", multiple=True, metavar="NAME=PATH|OWNER/NAME|random", help="Where a backbone's weights are."
    ),
    click.option("--steps", type=int, help="Training steps of a trial; short for --set train.steps=N."),
    click.option("--set", "overrides", multiple=True, metavar="GROUP.NAME=VALUE", help="Override one preset setting."),
    click.option("--rotary", is_flag=True, default=None, help="Short for --set block.rotary=true."),
    click.option("--causal", is_flag=True, default=None, help="Short for --set block.causal=true."),
    click.option("--block-dtype", metavar="auto|fp32|bf16", help="Short for --set block.dtype=…"),
    click.option("--mapper-lora", type=int, metavar="RANK", help="LoRA of this rank on the mappers; the paper has 4."),
    click.option("--checkpointing", is_flag=True, default=None, help="Compute the block twice instead of keeping it."),
    click.option("--offline", is_flag=True, default=None, help="Touch no network: what is not here is an error."),
    click.option(
        "--models/--no-models", "keep_models", default=None, help="Keep each trained model for `bench predict` [kept]."
    ),
    click.option("--out", help="Run folder [runs/<data>-<preset>]."),
    click.option("--workers-per-trial", type=int, help="Data-parallel workers of one trial [1]."),
    click.option("--zero-stage", type=int, help="DeepSpeed ZeRO stage 0 to 3 [0]."),
    click.option("--max-concurrent", type=int, help="Trials at a time [as many as fit]."),
]


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(STUDY_OPTIONS):
        command = option(command)
    return command


def study_of(given: dict[str, Any]) -> StudySpec:
    """Defaults, then the TOML file, then flags."""
    path, overrides = given.pop("study"), given.pop("overrides")
    values = load(path) if path else {}
    settings = {group: dict(items) for group, items in values.pop("settings", {}).items()}
    for group, name, value in map(_override, overrides):
        settings.setdefault(group, {})[name] = value
    for flag, (group, name) in SHORT.items():
        if (value := given.pop(flag)) is not None:
            settings.setdefault(group, {})[name] = value
    weights = values.pop("weights", {}) | dict(_weight(text) for text in given.pop("weights"))
    flags = {name: value for name, value in given.items() if value is not None}
    command = "python -m bench " + shlex.join(sys.argv[1:])
    study = StudySpec(**(values | flags), settings=settings, weights=weights, command=command)
    if study.offline:
        go_offline()
    return study


def go_offline() -> None:
    """No network from here on. The hub's client reads this when it is imported, and Ray's workers inherit it."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def _override(text: str) -> tuple[str, str, str]:
    try:
        return parse_override(text)
    except ValueError as error:
        raise StudyError(str(error)) from error


def _weight(text: str) -> tuple[str, str]:
    name, equals, where = text.partition("=")
    return (name, where) if equals else ("*", _only_random(text))


def _only_random(text: str) -> str:
    if text != "random":
        raise click.BadParameter(f"{text!r} is neither NAME=PATH nor `random`", param_hint="--weights")
    return text
