"""What the user asked for: a TOML file and flags, of which the flags win."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from bench.presets import PHANTOM_STEPS, Settings, resolve

FILE = "study.toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class StudyError(ValueError):
    """The request cannot be carried out; the message names the flag or file, what was given and what would work."""


@dataclass(frozen=True)
class StudySpec:
    """One study. data is None for the phantom decathlon; tasks empty means all that the data hold.

    weights maps a backbone to a path, or "*" to `random`. settings are overrides of the preset, by group.
    The last five fields say how to run, and change no number.
    """

    backbones: tuple[str, ...] = ("none",)
    data: str | None = None
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int, ...] = (0,)
    preset: str = "cpu"
    weights: dict[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    out: str | None = None
    workers_per_trial: int = 1
    zero_stage: int = 0
    max_concurrent: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        for name in ("seeds", "folds"):
            values = getattr(self, name)
            if not values or min(values) < 0:
                raise StudyError(f"--{name}: {list(values)} must be whole numbers from 0, at least one")
        if not self.backbones:
            raise StudyError("--backbones: at least one name is needed; `--backbones none` is the baseline alone")
        if self.workers_per_trial < 1:
            raise StudyError(f"--workers-per-trial: {self.workers_per_trial} is below 1")
        if self.zero_stage not in (0, 1, 2, 3):
            raise StudyError(f"--zero-stage: {self.zero_stage} is not one of 0, 1, 2, 3")
        batch, workers = self.resolved()["train"]["batch"], self.workers_per_trial
        if batch % workers:
            raise StudyError(
                f"--workers-per-trial: {workers} workers cannot share train.batch = {batch}; "
                f"use a divisor of it, or --set train.batch={workers * max(1, batch // workers)}"
            )

    @property
    def phantom(self) -> bool:
        return self.data is None

    @property
    def run(self) -> Path:
        """The run folder: --out, or runs/<data>-<preset>."""
        if self.out:
            return Path(self.out)
        source = "phantom" if self.data is None else Path(self.data).resolve().name
        safe = source if _NAME.fullmatch(source) else "study"
        return Path("runs") / f"{safe}-{self.preset}"

    def resolved(self) -> Settings:
        """The preset with its overrides; the phantom trains for less unless told otherwise."""
        overrides = {group: dict(values) for group, values in self.settings.items()}
        if self.phantom:
            overrides.setdefault("train", {}).setdefault("steps", PHANTOM_STEPS)
        try:
            return resolve(self.preset, overrides)
        except ValueError as error:
            raise StudyError(str(error)) from error

    def fixed(self) -> dict[str, Any]:
        """What may not change within one run folder."""
        data = str(Path(self.data).resolve()) if self.data else "phantom"
        groups = _plain(self.resolved())
        return {
            "data": data,
            "preset": self.preset,
            "train": groups["train"],
            "model": groups["model"],
            "preparation": groups["data"],
        }


def load(path: Path) -> dict[str, Any]:
    """The fields that a TOML study file sets; StudyError names what is unknown or unreadable."""
    try:
        body = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as TOML: {error}") from error
    settings: Settings = {group: body.pop(group) for group in ("train", "model") if group in body}
    if isinstance(body.get("data"), dict):
        raise StudyError(f"{path}: `data` is the data folder; preparation settings go under [preparation]")
    if "preparation" in body:
        settings["data"] = body.pop("preparation")
    known = {item.name for item in fields(StudySpec)} - {"settings", "command"}
    unknown = sorted(set(body) - known)
    if unknown:
        raise StudyError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}, [train], [model]")
    for name in ("backbones", "tasks", "seeds", "folds"):
        if name in body:
            body[name] = tuple(body[name] if isinstance(body[name], list) else [body[name]])
    return body | ({"settings": settings} if settings else {})


def bind(study: StudySpec, run: Path) -> None:
    """Tie a run folder to a study's settings, or refuse it if it was made with others. Writes study.toml."""
    path = run / FILE
    fixed = study.fixed()
    if path.exists():
        _refuse_other(path, fixed)
    run.mkdir(parents=True, exist_ok=True)
    asked = {
        k: v for k, v in asdict(study).items() if k in ("backbones", "tasks", "seeds", "folds", "weights", "command")
    }
    temporary = path.with_name(f".{FILE}.tmp")
    temporary.write_text(tomli_w.dumps({"asked": _plain(asked), "fixed": fixed}))
    temporary.replace(path)


def _refuse_other(path: Path, fixed: dict[str, Any]) -> None:
    try:
        before = tomllib.loads(path.read_text())["fixed"]
    except (OSError, KeyError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read ({error!r}); use another --out") from error
    flat_before, flat_now = _flat(before), _flat(fixed)
    other = [key for key in sorted(flat_before | flat_now) if flat_before.get(key) != flat_now.get(key)]
    if other:
        key = other[0]
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        raise StudyError(
            f"{path.parent}: this run folder was made with {key} = {flat_before.get(key)!r}, the command asks for "
            f"{flat_now.get(key)!r}{more}; use the same settings, or another folder with --out"
        )


def _plain(value: Any) -> Any:
    """Tuples as lists and without None, as TOML and JSON have them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat
