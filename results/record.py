"""What one trial is, and what it left behind. Standard library only, so that any tool can read a record.

A record is one JSON file: the resolved specification, the voxel counts and surface distances of every held-out case and
label, and where it all came from. Ratios of counts are never stored; they are computed when they are read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

SCHEMA = 3

#: Part of every trial's digest: raised when the code changes what a trial with the same settings gives.
METHOD = 4

#: `second_layer` of two random blocks that no layer's number changes: one draw, whatever number was asked for.
ANY_LAYER = "any"

#: What stands in the block's place -> what is added to the backbone's name where people read it. `none` is the
#: baseline: the same segmenter without a block; `reference` another model altogether, which the backbone's field names.
#: `external` is no arm of ours: someone else's predictions, as `bench score` reads them. The order is that of every
#: table.
CONTROLS = {
    "none": "",
    "pretrained": "",
    "stand-in": " (stand-in, random)",
    "random": " (random twin)",
    "shuffled": " (shuffled)",
    "identity": " (mappers only)",
    "mlp": " (matched MLP)",
    "depth": " (matched depth)",
    "trainable": " (trained)",
    "lora": " (LoRA)",
    "reference": " (reference)",
    "external": " (external)",
}


class Status(StrEnum):
    """How a trial ended. Diverged is failed for good: the loss ceased to be a number, and would do so again."""

    COMPLETE = "complete"
    FAILED = "failed"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class Weights:
    """Where a block's parameters came from.

    kind is `pretrained` or `shuffled` where they were read: source says where, and sha256 is the hash of what was read,
    before any shuffling. Else it is the control's name, and source tells how they were made. Of `external` predictions
    source is their folder, and sha256 their hash.
    """

    kind: str
    source: str = ""
    sha256: str = ""
    licence: str = ""

    @property
    def label(self) -> str:
        """The text of the `weights` column; it never calls a random weight pre-trained."""
        if self.kind == "stand-in":
            return "stand-in, random"
        return f"{self.kind} sha256:{self.sha256[:12]}" if self.sha256 else self.kind


@dataclass(frozen=True)
class TrialSpec:
    """Everything that may change a trial's numbers, and nothing else: no device, no worker count.

    A budget of wall time is the exception: how many steps fit into it is the machine's doing, so such a trial does not
    repeat bit by bit. Its record says so, and how many steps were made.
    train, model, data and block are the fully resolved settings, as plain JSON values. layer is None where the arm does
    not depend on it: a random block has none. Where two layers of one model stand at two places, layer and weights are
    those of the first, and block has `second_layer` (ANY_LAYER where layer is None) and, where it was read,
    `second_sha256`.
    """

    task: str
    backbone: str
    control: str
    layer: int | None
    weights: Weights
    seed: int
    fold: int
    fraction: float
    split_digest: str
    data_digest: str
    train: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    block: dict[str, Any] = field(default_factory=dict)
    method: int = METHOD

    def __post_init__(self) -> None:
        if self.control not in CONTROLS:
            raise ValueError(f"unknown control {self.control!r}; known: {', '.join(CONTROLS)}")
        for name in (self.task, self.backbone):
            if not is_one_part(name):
                raise ValueError(f"the name {name!r} leads out of its folder: files are named by it; no '..', no slash")
        if not (isinstance(self.seed, int) and isinstance(self.fold, int)):
            raise ValueError(f"seed {self.seed!r} and fold {self.fold!r} must be whole numbers")

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> TrialSpec:
        """A specification from its JSON value; KeyError, TypeError or ValueError if it is none."""
        return cls(**(body | {"weights": Weights(**body["weights"])}))

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the canonical JSON of every field.

        Of the weights only what they are, not where they were read: the same bytes from elsewhere are the same trial.
        """
        before, after = self._around_seed
        return _hash(f'{before[:-1]},"seed":{_canonical(self.seed)},{after[1:]}')

    @cached_property
    def _around_seed(self) -> tuple[str, str]:
        """The canonical JSON of the fields that come before the seed, and of those after it."""
        values = {name: getattr(self, name) for name in _FIELDS}
        values["weights"] = [self.weights.kind, self.weights.sha256]
        before = {name: value for name, value in values.items() if name < "seed"}
        after = {name: value for name, value in values.items() if name > "seed"}
        return _canonical(before), _canonical(after)

    def with_seed(self, seed: int) -> TrialSpec:
        """The trial with another seed. Its digest takes a tenth of the time: what comes around the seed is known."""
        other = replace(self, seed=seed)
        vars(other)["_around_seed"] = self._around_seed
        return other

    @property
    def arm(self) -> str:
        """The arm's name where a name must be short and safe in a path: `smollm2`, `smollm2+random`."""
        return self.backbone if self.control in ("none", "pretrained") else f"{self.backbone}+{self.control}"

    @property
    def title(self) -> str:
        """How messages name the trial: the arm as people read it, its layer as they write it."""
        backbone = self.backbone if self.layer is None else f"{self.backbone}@{self.layer}"
        part = f", {share_label(self.fraction)}" if self.fraction < 1 else ""
        return f"{self.task} with {arm_label(backbone, self.control)}, seed {self.seed}, fold {self.fold}{part}"

    @property
    def key(self) -> str:
        """`<task>/<arm>/<seed>-<fold>-<digest>`: the record's path below `trials/`, without its ending."""
        return f"{self.task}/{self.arm}/{self.seed}-{self.fold}-{self.digest}"


_FIELDS = tuple(item.name for item in fields(TrialSpec))


def is_one_part(name: str) -> bool:
    """Whether a name is one part of a path. Those of tasks and backbones must be: files are named by them."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def arm_label(backbone: str, control: str) -> str:
    """The arm's name as people read it in every table, figure and log line."""
    return backbone + CONTROLS[control]


def share_label(fraction: float) -> str:
    """A fraction of the training cases as people read it: `10% of cases`; two fractions never read the same."""
    return f"{100 * fraction:.12g}% of cases"


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def digest_of(value: Any, length: int = 12) -> str:
    """The first hexadecimal digits of the SHA-256 of a JSON value, whatever the order of its keys."""
    return _hash(_canonical(value), length)


def _hash(text: str, length: int = 12) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True)
class CaseScore:
    """Voxel counts and surface distances of one held-out case and one foreground label, on the native grid.

    tp + fp + fn + tn is the number of voxels of the native image, diagonal the length of its diagonal in mm. nsd is a
    ratio, None where both masks are empty; hd95 is in mm, None where either is. `bench.scoring.surface` defines both.
    """

    case: str
    patient: str
    label: str
    tp: int
    fp: int
    fn: int
    tn: int
    nsd: float | None
    hd95: float | None
    diagonal: float


@dataclass(frozen=True)
class TaskInfo:
    """What a reader of the record must know of the task.

    origin is `phantom` or `images`; notice is shown wherever the task's numbers are (empty for none).
    """

    name: str
    modality: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    origin: str
    source: str = ""
    licence: str = ""
    notice: str = ""
    training_cases: int = 0
    held_out_cases: int = 0


@dataclass(frozen=True)
class TrialResult:
    """One record. One that failed or diverged has an error, no cases, and never counts as done.

    curve: one entry an epoch, {"step": int, "loss": float, "dice": float | None}; loss and Dice are means over the
    training crops of that epoch. Some entries have "validation_dice" (float | None) too, of a few crops of held-out
    cases: nothing was decided by it, and records of before have none. provenance and cost are free of form: reports
    show what they know of them.
    """

    spec: TrialSpec
    status: Status
    task: TaskInfo
    cases: tuple[CaseScore, ...] = ()
    curve: tuple[dict[str, Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    schema: int = SCHEMA

    @property
    def second_weights(self) -> Weights | None:
        """Those of the block at a second place, where another layer was read for it. The hash is the digest's own."""
        sha256 = self.spec.block.get("second_sha256")
        told = self.provenance.get("second_weights") or {}
        kind = self.spec.weights.kind
        return Weights(kind, told.get("source", ""), sha256, told.get("licence", "")) if sha256 else None

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no NaN, a line feed at the end."""
        body = asdict(self) | {"status": self.status.value, "digest": self.spec.digest}
        return json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrialResult:
        """Read a record; ValueError if it is of another schema, damaged, or its digest does not match its content."""
        return cls.from_body(json.loads(text))

    @classmethod
    def from_body(cls, body: dict[str, Any], spec: TrialSpec | None = None) -> TrialResult:
        """A record from its JSON value, checked as by `from_json`. spec: what it specifies, where that is known."""
        if body.get("schema") != SCHEMA:
            lacking = ", which has no surface distances" if body.get("schema") in (1, 2) else ""
            raise ValueError(f"record has schema {body.get('schema')!r}{lacking}; this version reads schema {SCHEMA}")
        try:
            record = cls(
                spec=spec or TrialSpec.from_body(body["spec"]),
                status=Status(body["status"]),
                task=TaskInfo(**(body["task"] | {k: tuple(body["task"][k]) for k in ("channels", "labels")})),
                cases=tuple(CaseScore(**case) for case in body["cases"]),
                curve=tuple(body["curve"]),
                provenance=body["provenance"],
                cost=body["cost"],
                error=body["error"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"record is damaged: {error!r}") from error
        if body.get("digest") != record.spec.digest:
            raise ValueError(
                f"record's digest {body.get('digest')!r} does not match its content ({record.spec.digest})"
            )
        return record
