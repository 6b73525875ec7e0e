"""What the user asked for: a TOML file and flags, of which the flags win."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w

from backbones.request import anchored, anchored_path
from bench import variants
from bench.presets import PHANTOM_STEPS, resolve
from bench.running import KINDS as RUNNING_KINDS
from bench.running import Running, StudyError
from bench.settings import Settings
from mvl import references
from results import record
from results.store import atomic_write

FILE = "study.toml"
#: The tables of a study file -> the groups of settings. There `data` is the folder.
GROUPS = {"train": "train", "model": "model", "preparation": "data", "block": "block", "reference": "reference"}
#: These come about otherwise, or not by a study at all.
_NOT_ASKED = ("none", "pretrained", "stand-in", "reference", "external")
#: What may stand beside the baseline and the pre-trained block, by the names that records use.
CONTROLS = tuple(name for name in record.CONTROLS if name not in _NOT_ASKED)
Labels = Literal["official", "binary"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class StudySpec(Running):
    """One study, and how to run it. data is None for the phantom decathlon; tasks empty means all that the data hold.

    folds `all` is, for each task, as many as it has. fractions are of the training patients, nested. labels `binary`
    merges all foreground of every task into one label.
    backbones is what `backbones.request.parse` reads. controls: names of CONTROLS, or `standard` or `all`.
    references: names of `mvl.references.REGISTRY`, or `all`.
    weights maps a backbone to a path, a hub repository or `random`, or "*" to `random`. settings are overrides of the
    preset, by group. variants are lists of values for settings of the model; each combination is an arm. What
    `bench.running` adds changes no number, and neither does command.
    """

    backbones: tuple[str, ...] = ("none",)
    controls: tuple[str, ...] = ("standard",)
    references: tuple[str, ...] = ()
    data: str | None = None
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int, ...] | Literal["all"] = (0,)
    fractions: tuple[float, ...] = (1.0,)
    labels: Labels = "official"
    preset: str = "cpu"
    weights: dict[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    variants: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    out: str | None = None
    command: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_splits()
        if not self.backbones:
            raise StudyError("--backbones: at least one name is needed; `--backbones none` is the baseline alone")
        known = ("standard", "all", "none", *CONTROLS)
        if unknown := [name for name in self.controls if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise StudyError(f"--controls: unknown control {unknown[0]!r}{hint} available: {', '.join(known)}")
        self._check_references()
        train, workers = self.each_resolved()[0]["train"], self.workers_per_trial
        if train["precision"] == "fp16" and self.zero_stage:
            raise StudyError(
                f"--precision fp16 with --zero-stage {self.zero_stage}: DeepSpeed would clip gradients that are still "
                "scaled; use --zero-stage 0, or --precision bf16"
            )
        batch = train["batch"]
        if batch % workers:
            raise StudyError(
                f"--workers-per-trial: {workers} workers cannot share train.batch = {batch}; "
                f"use a divisor of it, or --set train.batch={workers * max(1, batch // workers)}"
            )

    def _check_references(self) -> None:
        try:
            references.chosen(self.references)
        except ValueError as error:
            raise StudyError(f"--references: {error}") from error

    def _check_splits(self) -> None:
        for name in ("seeds", "folds"):
            values = getattr(self, name)
            if values != "all" and (not values or min(values) < 0 or len(set(values)) < len(values)):
                raise StudyError(f"--{name}: {list(values)} must be whole numbers from 0, at least one, none twice")
        shares = self.fractions
        if not shares or not all(0 < share <= 1 for share in shares) or len(set(shares)) < len(shares):
            raise StudyError(
                f"--fraction: {list(shares)} must be above 0 and at most 1, at least one, none twice; such as 0.1,0.3,1"
            )
        if self.labels not in get_args(Labels):
            raise StudyError(f"--labels: {self.labels!r} is not one of {', '.join(get_args(Labels))}")

    @property
    def wanted_controls(self) -> tuple[str, ...]:
        """The controls by name, in the order of CONTROLS. `none`, the baseline, is always run and not among them."""
        asked = {"random"} if "standard" in self.controls else set()
        asked |= set(CONTROLS if "all" in self.controls else self.controls)
        return tuple(name for name in CONTROLS if name in asked)

    @property
    def phantom(self) -> bool:
        return self.data is None

    @property
    def run(self) -> Path:
        """The run folder: --out, or runs/<data>-<preset>."""
        if self.out:
            return Path(self.out)
        source = "phantom" if self.data is None else full_path(Path(self.data)).name.removesuffix(".csv")
        safe = source if _NAME.fullmatch(source) else "study"
        return Path("runs") / f"{safe}-{self.preset}"

    def resolved(self) -> Settings:
        """The preset with its overrides, of the first variant; the phantom trains for less unless told otherwise."""
        return self.each_resolved()[0]

    def each_resolved(self) -> list[Settings]:
        """The resolved settings of every variant, one where nothing is varied."""
        try:
            variants.check(self.variants)
            return [resolve(self.preset, self._overrides(model)) for model in variants.combinations(self.variants)]
        except ValueError as error:
            raise StudyError(str(error)) from error

    def _overrides(self, model: dict[str, Any]) -> Settings:
        overrides = {group: dict(values) for group, values in self.settings.items()}
        overrides["model"] = overrides.get("model", {}) | model
        if self.phantom and not overrides.get("train", {}).get("budget"):
            overrides.setdefault("train", {}).setdefault("steps", PHANTOM_STEPS)
        return overrides

    def fixed(self) -> dict[str, Any]:
        """What may not change within one run folder; a setting that is varied may."""
        data = str(full_path(Path(self.data))) if self.data else "phantom"
        groups = _plain(self.resolved())
        return {
            "data": data,
            "preset": self.preset,
            "train": groups["train"],
            "model": {name: value for name, value in groups["model"].items() if name not in self.variants},
            "preparation": groups["data"],
            "block": groups["block"],
            "reference": groups["reference"],
        }


def full_path(data: Path) -> Path:
    """An absolute path that works in every process. A CSV that is a link stays one: its paths begin where it lies."""
    return data.parent.resolve() / data.name if data.is_file() else data.resolve()


def load(path: Path) -> dict[str, Any]:
    """The fields that a TOML study file sets; StudyError names what is unknown, ill-typed or unreadable."""
    try:
        body = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as TOML: {error}") from error
    if isinstance(body.get("data"), dict):
        raise StudyError(f"{path}: `data` is the data folder; preparation settings go under [preparation]")
    body.pop("command", None)  # how a run folder's own study.toml came about
    settings = {group: body.pop(name) for name, group in GROUPS.items() if name in body}
    if wrong := [name for name, values in settings.items() if not isinstance(values, dict)]:
        raise StudyError(f"{path}: {wrong[0]} must be a table of settings such as [train]")
    if unknown := sorted(set(body) - set(_KINDS)):
        raise StudyError(
            f"{path}: unknown key {unknown[0]!r}; known: {', '.join(sorted(_KINDS))}, [{'], ['.join(GROUPS)}]"
        )
    values = {name: _typed(value, name, path) for name, value in body.items()}
    return values | ({"settings": settings} if settings else {})


#: What a study file may set, and of which kind: a list of it where it stands in a tuple.
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("backbones", "controls", "references", "tasks"), (str,)),
    **dict.fromkeys(("seeds", "folds"), (int,)),
    "fractions": (float,),
    **dict.fromkeys(("data", "preset", "out", "labels"), str),
    **RUNNING_KINDS,
    **dict.fromkeys(("weights", "variants"), dict),
}


def _typed(value: Any, name: str, path: Path) -> Any:
    kind = _KINDS[name]
    if name == "folds" and value == "all":
        return value
    if isinstance(kind, tuple):
        parts = tuple(value) if isinstance(value, list) else (value,)
        if kind == (float,):  # TOML writes 1 and means 1.0
            parts = tuple(float(part) if type(part) is int else part for part in parts)
        good, value, words = all(type(part) is kind[0] for part in parts), parts, f"a list of {kind[0].__name__}"
    elif name == "variants":
        good, words = isinstance(value, dict), "a table of SETTING = [value, value]"
        value = {key: tuple(item) if isinstance(item, list) else (item,) for key, item in value.items()} if good else ()
    elif kind is dict:
        good = isinstance(value, dict) and all(isinstance(part, str) for part in value.values())
        words = "a table of NAME = 'path or random'"
    else:
        value = float(value) if kind is float and type(value) is int else value
        good, words = type(value) is kind, f"of type {kind.__name__}"
    if not good:
        raise StudyError(f"{path}: {name} is {value!r}; it must be {words}")
    return value


def check_bound(study: StudySpec, run: Path) -> None:
    """StudyError if the run folder was made with other settings than the study's."""
    path = run / FILE
    if not path.exists():
        return
    try:
        before = StudySpec(**load(path))
    except StudyError as error:
        named = str(error).removeprefix(f"{path}: ")
        raise StudyError(
            f"{path}: {named}; it says what this run folder was made with: mend it, or use another --out"
        ) from error
    flat_before, flat_now = _flat(before.fixed()), _flat(study.fixed())
    varied = {f"model.{name}" for name in (*before.variants, *study.variants)}  # arms are told apart by these
    keys = [key for key in {**flat_now, **flat_before} if key not in varied]  # what is None is in neither
    other = [key for key in keys if flat_before.get(key) != flat_now.get(key)]
    if other:
        key = other[0]
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        raise StudyError(
            f"{run}: this run folder was made with {key} = {flat_before.get(key)!r}, the command asks for "
            f"{flat_now.get(key)!r}{more}; use the same settings, or another folder with --out"
        )


def bind(study: StudySpec, run: Path) -> None:
    """Write the run folder's study.toml: the latest command's study, fully resolved; `--study` takes it."""
    atomic_write(run / FILE, as_toml(study).encode())


def as_toml(study: StudySpec) -> str:
    """A study with every setting resolved, as a TOML file that `--study` takes; nothing of how and where it is run."""
    asked_for = ("backbones", "controls", "references", "tasks", "seeds", "folds", "fractions", "labels", "weights")
    names = (*asked_for, "variants", "command")
    asked = {name: value for name, value in asdict(study).items() if name in names and value}
    asked["backbones"] = anchored(study.backbones)
    asked["weights"] = {name: anchored_path(where) for name, where in study.weights.items()}
    fixed = study.fixed()
    if study.phantom:
        del fixed["data"]
    return tomli_w.dumps(_plain(asked | fixed))


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
