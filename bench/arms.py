"""The arms of a study: the baseline, each backbone's block, and the controls that make a claim of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import backbones
from backbones import weights
from backbones.errors import PlugInError
from backbones.request import Backbone, parse, resolve
from backbones.spec import BackboneSpec
from backbones.weights import BlockFile
from bench.study import StudyError, StudySpec
from results.record import Weights

#: What each control is that reads no weights, in the words of the record.
_MADE = {
    "random": "the family's own initialisation, seeded by the trial",
    "identity": "no block: the two mappers alone",
    "mlp": "an MLP with as many trainable parameters as the mappers",
    "depth": "encoder blocks with as many trainable parameters as the mappers",
}
#: What is said to be looked at.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One thing to compare: the baseline, a backbone's block, or a control of it.

    layer is None where the arm does not depend on it. block is the file that the block is read from.
    """

    backbone: BackboneSpec | None
    control: str
    weights: Weights
    layer: int | None = None
    block: BlockFile | None = None

    @property
    def name(self) -> str:
        return self.backbone.name if self.backbone else "none"


def find_arms(study: StudySpec, say: Say, problems: list[str]) -> tuple[tuple[Arm, ...], tuple[str, ...]]:
    """The arms of a study, the baseline first, and notices of what was left out. What is wrong joins problems."""
    arms, notices = [Arm(None, "none", Weights("none"))], list[str]()
    names: set[str] = set()
    for request in parse(study.backbones):
        if request.what == "none":
            continue
        try:
            found = resolve(request)
            if found.spec.name in names:
                raise StudyError(f"--backbones {request.text}: another one goes by the name {found.spec.name!r}")
            names.add(found.spec.name)
            arms += _arms_of(found, study, say, notices)
        except (backbones.UnknownBackbone, weights.WeightsError, PlugInError, StudyError) as error:
            problems.append(str(error))
    asked = ", ".join(sorted(names)) or "none"
    problems += [
        f"--weights {name}=…: {name!r} is not among --backbones ({asked})"
        for name in sorted(set(study.weights) - names - {"*"})
        if not problems
    ]
    return tuple(arms), tuple(notices)


def _arms_of(found: Backbone, study: StudySpec, say: Say, notices: list[str]) -> list[Arm]:
    """The pre-trained block at each layer with the controls that read it, then the controls that need no weights."""
    spec, wanted = found.spec, study.wanted_controls
    given = study.weights.get(spec.name, study.weights.get("*")) or found.source
    arms: list[Arm] = []
    blocks = {} if given == "random" else _blocks(found, given, study, say)
    for layer, block in blocks.items():
        read = Weights("pretrained", block.source, block.sha256, block.licence)
        arms += [Arm(spec, control, read, layer, block) for control in ("pretrained", "trainable", "lora")
                 if control == "pretrained" or control in wanted]  # fmt: skip
        if "shuffled" in wanted:
            arms.append(Arm(spec, "shuffled", replace(read, kind="shuffled"), layer, block))
    made = [name for name in wanted if name in _MADE]
    if given == "random" and "random" not in made:
        made.insert(0, "random")
    if not blocks:
        spec, left = _without_weights(spec, given, study, arms, made)
        notices += left
    arms += [Arm(spec, name, Weights(name, _MADE[name])) for name in made]
    return arms


def _blocks(found: Backbone, given: str | None, study: StudySpec, say: Say) -> dict[int, BlockFile]:
    """The verified block file of each layer; none at all where a stand-in is to take their place."""
    spec, blocks = found.spec, dict[int, BlockFile]()
    for layer in found.layers:
        block = weights.fetch(spec, layer, given, say, apart=True) if given else _kept(spec, layer, say)
        if block is not None:
            weights.verify(spec, block)
            blocks[layer] = block
    missing = [layer for layer in found.layers if layer not in blocks]
    if missing and not (study.phantom and not blocks):
        raise StudyError(f"--backbones {spec.name}: {weights.missing_words(spec, missing[0])}")
    return blocks


def _without_weights(
    spec: BackboneSpec, given: str | None, study: StudySpec, arms: list[Arm], made: list[str]
) -> tuple[BackboneSpec, list[str]]:
    """What is left of the controls where there are no weights, in the size of the stand-in if there is to be one.

    A control that reads weights is an error where it was asked for by name, and a notice where `all` asked for it.
    """
    why = "--weights random says to read none" if given == "random" else "its weights are not here"
    unmade = [name for name in study.wanted_controls if name not in _MADE]
    if given != "random":
        arms.append(Arm(spec, "stand-in", Weights("stand-in", "a tiny random twin of the architecture")))
        spec = backbones.stand_in(spec)
        if "random" in made:  # a stand-in is a random twin
            made.remove("random")
    if not unmade:
        return spec, []
    text = f"{spec.name}: left out {', '.join(unmade)}, which need pre-trained weights: {why}"
    if "all" not in study.controls:
        raise StudyError(f"--controls {','.join(unmade)}: they need pre-trained weights of {spec.name!r}, but {why}")
    return spec, [text]


def _kept(spec: BackboneSpec, layer: int, say: Say) -> BlockFile | None:
    """The block as it is in the cache, or as huggingface_hub has it on this machine; no network is touched."""
    return weights.find(spec, layer) or (weights.from_local_cache(spec, layer, say) if spec.repo else None)
