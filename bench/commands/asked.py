"""The study that was asked for: defaults, then a TOML file, then flags. Errors name the flag or key that was given."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from bench.presets import parse_override
from bench.settings import Settings
from bench.study import GROUPS, StudyError, StudySpec, load

#: Flags that are short for one setting.
SHORT = {
    "steps": ("train", "steps"),
    "budget": ("train", "budget"),
    "rotary": ("block", "rotary"),
    "causal": ("block", "causal"),
    "block_dtype": ("block", "dtype"),
    "second_layer": ("block", "second_layer"),
    "precision": ("train", "precision"),
}
#: Flags that are short for a setting of the model; several values make several arms.
VARIED = ("attention", "fusion", "placement", "residual", "decoder", "mapper_lora")


def study_of(given: dict[str, Any]) -> StudySpec:
    """Defaults, then the TOML file, then flags."""
    path, overrides = given.pop("study"), given.pop("overrides")
    values = load(path) if path else {}
    asked = _in_file(values, path) | _by_flags(given, overrides)
    settings = {group: dict(items) for group, items in values.pop("settings", {}).items()}
    flagged, varied = _flagged(given, overrides)
    if {"steps", "budget"} & set(flagged.get("train", {})):
        # A flag's budget takes the place of the file's, of any kind.
        settings["train"] = {k: v for k, v in settings.get("train", {}).items() if k not in ("steps", "budget")}
    for group, items in flagged.items():
        settings.setdefault(group, {}).update(items)
    in_file = values.pop("variants", {}).items()
    variants = {name: chosen for name, chosen in in_file if name not in flagged.get("model", {})} | varied
    weights = values.pop("weights", {}) | dict(_weight(text) for text in given.pop("weights"))
    flags = {name: value for name, value in given.items() if value is not None}
    command = "python -m bench " + shlex.join(sys.argv[1:])
    try:
        study = StudySpec(**(values | flags), settings=settings, variants=variants, weights=weights, command=command)
    except StudyError as error:
        name, colon, rest = str(error).partition(":")
        raise StudyError(asked.get(name, name) + colon + rest) from error
    if study.offline:
        go_offline()
    return study


def _in_file(values: dict[str, Any], path: Path | None) -> dict[str, str]:
    """What errors begin with -> the file and its key."""
    tables = {group: table for table, group in GROUPS.items()}
    settings = values.get("settings", {}).items()
    keys = {f"{group}.{name}": f"{tables[group]}.{name}" for group, items in settings for name in items}
    for name in values.get("variants", {}):
        keys |= dict.fromkeys((f"model.{name}", f"variants.{name}"), f"variants.{name}")
    own = {"--fraction" if name == "fractions" else _flag(name): name for name in values}
    return {name: f"{path}: {key}" for name, key in (keys | own).items()}


def _by_flags(given: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, str]:
    """What errors begin with -> the flag, as it was typed."""
    flags = {f"{group}.{name}": f"--set {group}.{name}" for group, name, _ in map(_override, overrides)}
    flags |= {f"{group}.{name}": _flag(flag) for flag, (group, name) in SHORT.items() if given.get(flag) is not None}
    for name in VARIED:
        if given.get(name) is not None:
            flags |= dict.fromkeys((f"model.{name}", f"variants.{name}"), _flag(name))
    own = ("--fraction" if name == "fractions" else _flag(name) for name, value in given.items() if value is not None)
    return flags | {flag: flag for flag in own}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _flagged(given: dict[str, Any], overrides: tuple[str, ...]) -> tuple[Settings, dict[str, tuple[Any, ...]]]:
    """What flags set, taken out of given: settings, and those of the model that were given several values."""
    flagged: Settings = {}
    for group, name, value in map(_override, overrides):
        flagged.setdefault(group, {})[name] = value
    for flag, (group, name) in SHORT.items():
        if (value := given.pop(flag, None)) is not None:
            flagged.setdefault(group, {})[name] = value
    lists = {name: chosen for name in VARIED if (chosen := given.pop(name, None)) is not None}
    for name, chosen in lists.items():
        if len(chosen) == 1:
            flagged.setdefault("model", {})[name] = chosen[0]
    return flagged, {name: chosen for name, chosen in lists.items() if len(chosen) != 1}


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
