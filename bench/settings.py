"""What may be set of training, data and block, and which values are good. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from backbones.spec import DTYPES
from bench.budget import parse

#: Group -> setting -> value.
Settings = dict[str, dict[str, Any]]

#: What training computes in under autocast -> torch's name of it; fp16 is scaled against underflow.
AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}

#: Settings of training, what is good of a value, and what is said of one that is not.
_LIMITS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("batch", "epochs"), lambda value: value >= 1, "is not a positive whole number"),
    (("warmup", "foreground"), lambda value: 0 <= value <= 1, "is outside [0, 1]"),
    (("weight_decay", "patience"), lambda value: value >= 0, "is below 0"),
    (("factor",), lambda value: 0 < value < 1, "is not between 0 and 1"),
    (("lr", "clip"), lambda value: value > 0, "is not above 0"),
)
_KNOWN = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "plateau"),
    "precision": ("fp32", *AUTOCAST),
    "augment": ("none", "light", "full"),
}


@dataclass(frozen=True)
class TrainSettings:
    """One trial's training. batch is the global batch, whatever the number of workers; lr is the peak rate.

    The rate rises linearly over `warmup` of the budget and falls to zero along a `cosine`, or is multiplied by `factor`
    at each `plateau` of the training loss longer than `patience` epochs (see `bench.schedule`). clip bounds the
    gradient's norm. foreground is the share of crops that are centred on a foreground voxel. epochs is how many entries
    the learning curve gets. Either steps or budget says how long: `20 epochs` or a wall time such as `600 s`, with 0
    steps. augment is `none`, `light` (intensities) or `full` (also gamma, sharpness, turns and zooms); mirror names
    the axes that may be mirrored, of x (left to right), y and z.
    """

    steps: int = 500
    budget: str = ""
    batch: int = 2
    lr: float = 2e-3
    optimizer: str = "adamw"
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    factor: float = 0.5
    patience: int = 10
    warmup: float = 0.1
    clip: float = 1.0
    foreground: float = 0.67
    epochs: int = 20
    precision: str = "fp32"
    augment: str = "light"
    mirror: str = ""

    @property
    def flips(self) -> tuple[int, ...]:
        """The axes of mirror, by number."""
        return tuple("xyz".index(letter) for letter in self.mirror)

    def __post_init__(self) -> None:
        self._check_budget()
        for names, good, words in _LIMITS:
            for name in names:
                if not good(getattr(self, name)):
                    raise ValueError(f"train.{name}: {getattr(self, name)!r} {words}")
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise ValueError(f"train.{name}: unknown value {getattr(self, name)!r}; known: {', '.join(known)}")
        if set(self.mirror) - set("xyz") or len(set(self.mirror)) < len(self.mirror):
            raise ValueError(f"train.mirror: {self.mirror!r} must be letters of xyz, such as x, or empty")

    def _check_budget(self) -> None:
        if not self.budget and self.steps < 1:
            raise ValueError(f"train.steps: {self.steps!r} is not a positive whole number")
        if self.budget and self.steps:
            raise ValueError(f"train.steps {self.steps} and train.budget {self.budget!r}: only one may be in force")
        if self.budget:
            parse(self.budget)

    @property
    def seconds(self) -> float:
        """The wall time to train for; 0 where steps decide."""
        budget = parse(self.budget) if self.budget else None
        return budget.amount if budget and budget.unit == "s" else 0.0

    def for_cases(self, cases: int) -> TrainSettings:
        """The same with a budget of epochs as steps, for so many training cases."""
        if not self.budget or self.seconds:
            return self
        return replace(self, steps=parse(self.budget).steps(cases, self.batch), budget="")


@dataclass(frozen=True)
class DataSettings:
    """Preparation and prediction. max_voxels bounds the median prepared training volume (0: native median spacing).

    overlap is that of neighbouring windows at prediction, as a share of the window. window, "low,high" in Hounsfield
    units, takes the place of the percentiles by which CT is clipped: with very few patients those mislead. anisotropy:
    where a voxel is more than this many times as thick as it is wide, slices are not interpolated; 0: always.
    tolerance is that of NSD in mm; 0 is the task's own, and a trial's record holds which it was. windows
    is how many are predicted at a time. mirror, letters of xyz: predictions are means over mirror images along these
    axes.
    """

    max_voxels: int = 0
    overlap: float = 0.5
    window: str = ""
    anisotropy: float = 3.0
    tolerance: float = 0.0
    windows: int = 1
    mirror: str = ""

    @property
    def hounsfield(self) -> tuple[float, float] | None:
        """The two numbers of window; None for the percentiles."""
        if not self.window:
            return None
        low, high = (float(part) for part in self.window.split(","))
        return low, high

    def __post_init__(self) -> None:
        if self.max_voxels < 0:
            raise ValueError(f"data.max_voxels: {self.max_voxels!r} is below 0")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"data.overlap: {self.overlap!r} is outside [0, 1)")
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"data.tolerance: {self.tolerance!r} is no distance in mm; 0 is the task's own")
        if self.anisotropy and self.anisotropy < 1:
            raise ValueError(f"data.anisotropy: {self.anisotropy!r} is below 1; 0 always interpolates")
        if self.windows < 1:
            raise ValueError(f"data.windows: {self.windows!r} is not a positive whole number")
        if set(self.mirror) - set("xyz") or len(set(self.mirror)) < len(self.mirror):
            raise ValueError(f"data.mirror: {self.mirror!r} must be letters of xyz, such as x, or empty")
        try:
            low, high = self.hounsfield or (0.0, 1.0)
        except ValueError:
            low, high = 0.0, 0.0
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(f"data.window: {self.window!r} is no window; give low,high such as -160,240")


@dataclass(frozen=True)
class BlockSettings:
    """How the block is run: backbones.spec.BlockOptions says what rotary, causal and dtype mean.

    dtype `auto` is bf16 where the training computes in bf16, else fp32. lora_rank is that of the control `lora`.
    second_layer is the layer of another block of the same model, at the second of two places, counted from the image;
    None: the same block at both.
    """

    rotary: bool = False
    causal: bool = False
    dtype: str = "auto"
    lora_rank: int = 4
    second_layer: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise ValueError(f"block.dtype: unknown value {self.dtype!r}; known: auto, {', '.join(DTYPES)}")
        if self.lora_rank < 1:
            raise ValueError(f"block.lora_rank: {self.lora_rank} is below 1")
        if self.second_layer is not None and self.second_layer < 0:
            raise ValueError(f"block.second_layer: {self.second_layer} is below 0; layers are counted from 0")


def train_settings(values: dict[str, Any]) -> TrainSettings:
    """The checked dataclass of a resolved `train` group."""
    known = {item.name for item in fields(TrainSettings)}
    return TrainSettings(**{key: value for key, value in values.items() if key in known})


def data_settings(values: dict[str, Any]) -> DataSettings:
    """The checked dataclass of a resolved `data` group."""
    known = {item.name for item in fields(DataSettings)}
    return DataSettings(**{key: value for key, value in values.items() if key in known})


def as_like(like: Any, value: Any, name: str) -> Any:
    """value in the type of the preset's own value; text from a flag is read, a value of another type refused."""
    try:
        return _read(like, value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError(f"{name}: {value!r} is not {_SHAPES[type(like)]}") from None


def _read(like: Any, value: Any) -> Any:
    if like is None:
        return None if str(value).lower() == "none" else _read(0, value)
    if isinstance(like, bool):
        return {"true": True, "false": False}[str(value).lower()]
    if isinstance(value, bool):  # Python counts with them
        raise TypeError
    if isinstance(like, tuple):
        return tuple(_read(0, part) for part in (value.split(",") if isinstance(value, str) else value))
    if isinstance(like, int) and not isinstance(value, str) and value != int(value):
        raise ValueError
    found = type(like)(value)
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError
    return found


#: What a value of the type should have been.
_SHAPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    tuple: "a list of whole numbers such as 32,32,32",
    str: "a text",
    type(None): "a whole number, or none",
}
