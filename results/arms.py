"""Which trials are of one arm, and what people read as its name. Standard library only.

An arm is a backbone, what stands in its place, a layer, a fraction of the cases, and the settings of segmenter and
block. Where arms of a run differ in such a setting its value is part of the name: the arm's variant.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from results.record import ANY_LAYER, TrialSpec, arm_label, share_label

#: What a task decides about the model, and a backbone about its blocks: not a study.
_GIVEN = {"model": ("channels", "classes"), "block": ("architecture", "width", "second_sha256")}
#: What stands in the block's place where no block of an LLM does: a block's second layer is nothing to these.
_BLOCKLESS = ("none", "identity", "mlp", "depth")
#: How the block is joined to the segmenter; the baseline is the same whatever these say.
JOINING = ("placement", "residual", "mapper_lora")


_in_words = json.JSONEncoder(sort_keys=True).encode


class Arm(NamedTuple):
    """Trials that agree in all of these are of one arm. settings: canonical JSON of those of model and block."""

    backbone: str
    control: str
    layer: int | None
    fraction: float
    settings: str = "{}"

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings by name."""
        chosen: dict[str, Any] = json.loads(self.settings)
        return chosen


def arm_key(spec: TrialSpec) -> Arm:
    """The arm that a trial is of."""
    parts = ((spec.block, _GIVEN["block"]), (spec.model, _GIVEN["model"]))
    settings = {name: value for part, given in parts for name, value in part.items() if name not in given}
    return Arm(spec.backbone, spec.control, spec.layer, spec.fraction, _in_words(settings))


def with_arms(specs: Iterable[TrialSpec]) -> list[tuple[TrialSpec, Arm]]:
    """Each trial and its arm. Trials that were planned together share their settings, which are written out once."""
    known: dict[tuple[int, int], str] = {}  # by identity, which is safe as long as the specifications are held
    told = []
    for spec in list(specs):
        shared = id(spec.model), id(spec.block)
        if shared in known:
            arm = Arm(spec.backbone, spec.control, spec.layer, spec.fraction, known[shared])
        else:
            arm = arm_key(spec)
            known[shared] = arm.settings
        told.append((spec, arm))
    return told


def shown(part: str, name: str) -> bool:
    """Whether a setting of `model`, `block`, … makes another arm, which tables tell apart."""
    return part in _GIVEN and name not in _GIVEN[part]


def arm_names(*runs: Iterable[TrialSpec]) -> dict[Arm, str]:
    """Arm → the name that people read, of one run, or of several that are named alike; in the order of their trials.

    A layer is named only where arms differ in it, a fraction of the cases only beside arms that had another, a setting
    only where trials of one run differ in it.
    """
    keyed = [with_arms(run) for run in runs]
    arms = dict.fromkeys(arm for run in keyed for _, arm in run)
    told = _variants(keyed)
    fractions = {arm.fraction for arm in arms}
    names = {}
    for arm in arms:
        layers = {other.layer for other in arms if other[:2] == arm[:2]}
        name = arm_label(f"{arm.backbone}@{arm.layer}" if len(layers) > 1 else arm.backbone, arm.control)
        parts = (name, told[arm], share_label(arm.fraction) * (arm.fraction < 1 < len(fractions)))
        names[arm] = ", ".join(part for part in parts if part)
    return names


def variants(*runs: Iterable[TrialSpec]) -> dict[Arm, str]:
    """Arm → its variant: `attention global, residual off`, or nothing where its kind was run with one setting only."""
    return _variants([with_arms(run) for run in runs])


def _variants(runs: Iterable[Iterable[tuple[TrialSpec, Arm]]]) -> dict[Arm, str]:
    varied: dict[tuple[str, str], set[str]] = {}
    arms: set[Arm] = set()
    for run in runs:
        kinds: dict[tuple[str, str, str], set[Arm]] = {}
        for spec, arm in run:
            kinds.setdefault((spec.task, *arm[:2]), set()).add(arm)
        for (_, backbone, control), found in kinds.items():
            arms |= found
            varied.setdefault((backbone, control), set()).update(_differing(found))
    return {arm: ", ".join(_words(arm, varied[arm[:2]])) for arm in arms}


def titles(specs: Iterable[TrialSpec]) -> dict[str, str]:
    """Digest → how messages name the trial, with its variant where trials of the run differ in one."""
    keyed = with_arms(specs)
    told = _variants([keyed])
    return {spec.digest: ", ".join(filter(None, (spec.title, told[arm]))) for spec, arm in keyed}


def fits(arm: Arm, other: Arm, named: Iterable[str]) -> bool:
    """Whether the other is the arm's own baseline or control: they differ in nothing but the block.

    named: the settings in which arms of the run differ. A layer that a control does not have fits every layer, and so
    does a setting that it does not have; how a block is joined does not concern the baseline.
    """
    if other.fraction != arm.fraction:
        return False
    baseline = other.control == "none"
    same_layer = None in (other.layer, arm.layer) or other.layer == arm.layer
    if not baseline and not (other.backbone == arm.backbone and same_layer):
        return False
    mine, its = arm.chosen, other.chosen
    blocks = not {arm.control, other.control} & set(_BLOCKLESS)
    if blocks and not _fits_second(mine.get("second_layer"), its.get("second_layer")):
        return False
    aside = ("second_layer", *(JOINING if baseline else ()))
    return all(mine[name] == its[name] for name in named if name in mine and name in its and name not in aside)


def _fits_second(mine: int | str | None, its: int | str | None) -> bool:
    """Without a second layer, one block is at both places, which is another arm; a draw for any layer fits each."""
    return mine == its or (ANY_LAYER in (mine, its) and None not in (mine, its))


def differing(arms: Iterable[Arm]) -> set[str]:
    """The settings in which arms of one backbone and control differ."""
    kinds: dict[tuple[str, str], set[Arm]] = {}
    for arm in arms:
        kinds.setdefault(arm[:2], set()).add(arm)
    return {name for kind in kinds.values() for name in _differing(kind)}


def _differing(arms: Iterable[Arm]) -> set[str]:
    settings = [arm.chosen for arm in {arm.settings: arm for arm in arms}.values()]
    if len(settings) < 2:
        return set()
    names = {name for one in settings for name in one}
    return {name for name in names if any(one.get(name) != settings[0].get(name) for one in settings)}


def _words(arm: Arm, varied: Iterable[str]) -> Iterator[str]:
    chosen = arm.chosen
    for name in sorted(varied):
        if name in chosen:
            yield f"{name.replace('_', ' ')} {said(chosen[name])}"


def said(value: Any) -> str:
    """A setting's value as people read it: `off`, `8×8×8`, `global`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "×".join(map(str, value)) if isinstance(value, list) else str(value)
