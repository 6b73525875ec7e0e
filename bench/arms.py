"""The arms of a study: the baseline, each backbone's block, the controls that make a claim of it, and references."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import backbones
from backbones import weights
from backbones.errors import PlugInError
from backbones.request import Backbone, parse, resolve
from backbones.spec import BackboneSpec
from backbones.weights import BlockFile
from bench.settings import Settings
from bench.study import StudyError, StudySpec
from mvl import references
from mvl.config import SegmenterConfig
from results.arms import JOINING
from results.record import ANY_LAYER, Weights, digest_of

#: What each control is that reads no weights, in the words of the record.
_MADE = {
    "random": "the family's own initialisation, seeded by the trial",
    "identity": "no block: the two mappers alone",
    "mlp": "an MLP with as many trainable parameters as the mappers",
    "depth": "encoder blocks with as many trainable parameters as the mappers",
}
#: The settings of the joint in a model without a block: those of `SegmenterConfig` where nothing is said.
UNJOINED = {item.name: item.default for item in fields(SegmenterConfig) if item.name in JOINING}
#: What is said to be looked at.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One thing to compare: the baseline, a backbone's block, a control of it, or a reference model.

    layer is None where the arm does not depend on it. block is the file that the block is read from, second that of
    another layer's block, where one is to stand at the second of two places.
    """

    backbone: BackboneSpec | None
    control: str
    weights: Weights
    layer: int | None = None
    block: BlockFile | None = None
    second: BlockFile | None = None
    reference: str = ""

    @property
    def name(self) -> str:
        return self.backbone.name if self.backbone else self.reference or "none"

    def model(self, settings: Settings) -> dict[str, Any]:
        """What of the resolved settings decides the model around the block: of a reference, the model itself.

        How a block is joined is nothing to the baseline, so that it is one trial whatever is said of it.
        """
        if self.control == "none":
            return settings["model"] | UNJOINED
        if not self.reference:
            return settings["model"]
        return references.model_settings(self.reference, settings["model"], settings["reference"])

    def settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """What of the block's settings decides this arm's numbers, and the digest of the architecture that is built."""
        if self.backbone is None:
            return {}
        built = backbones.stand_in(self.backbone) if self.control == "stand-in" else self.backbone
        if self.control in ("identity", "mlp", "depth"):
            return {"width": built.width}
        config = json.loads(json.dumps(dict(built.config)))
        chosen = {"architecture": digest_of([built.family, config]), "width": built.width}
        chosen |= {name: given[name] for name in ("rotary", "causal", "dtype")}
        if given["second_layer"] is not None:  # left out otherwise: the digest is that of before there was one
            chosen["second_layer"] = ANY_LAYER if self.layer is None else given["second_layer"]
            chosen |= {"second_sha256": self.second.sha256} if self.second else {}
        if self.control == "trainable":
            chosen["dtype"] = "fp32"  # what learns is kept in fp32, whatever the frozen arms are in
        return chosen | ({"lora_rank": given["lora_rank"]} if self.control == "lora" else {})


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
                raise StudyError(
                    f"--backbones {request.text}: another one goes by the name {found.spec.name!r}, which is that of "
                    "its folder, file or repository; rename one of them"
                )
            names.add(found.spec.name)
            arms += _arms_of(found, study, say, notices)
        except (backbones.UnknownBackbone, weights.WeightsError, PlugInError, StudyError) as error:
            is_one = request.what in references.REGISTRY
            hint = f"; a reference model is asked for by --references {request.what}" if is_one else ""
            problems.append(f"{error}{hint}")
    arms += _references(study, names, problems)
    asked = ", ".join(sorted(names)) or "none"
    problems += [
        f"--weights {name}=…: {name!r} is not among --backbones ({asked})"
        for name in sorted(set(study.weights) - names - {"*"})
        if not problems
    ]
    return tuple(arms), tuple(notices)


def _references(study: StudySpec, taken: set[str], problems: list[str]) -> list[Arm]:
    """An arm a reference model. Records know an arm by its name, which a backbone may have too: that is a problem."""
    asked = references.chosen(study.references)
    problems += [
        f"--references {name}: a backbone of --backbones goes by this name; rename its folder or file, or leave out one"
        for name in asked
        if name in taken
    ]
    made = Weights("reference", "trained from scratch")
    return [Arm(None, "reference", made, reference=name) for name in asked]


def _arms_of(found: Backbone, study: StudySpec, say: Say, notices: list[str]) -> list[Arm]:
    """The pre-trained block at each layer with the controls that read it, then the controls that need no weights."""
    spec, wanted = found.spec, study.wanted_controls
    settings = study.resolved()["block"]
    other: int | None = settings["second_layer"]
    if settings["rotary"] and not backbones.has_rotary(spec):
        raise StudyError(f"--rotary: backbone {spec.name!r} has no rotary embedding; leave it out of this study")
    _check_second(found, other)
    given = study.weights.get(spec.name, study.weights.get("*")) or found.source
    arms: list[Arm] = []
    blocks = {} if given == "random" else _blocks(found, given, other, study, say)
    second = None if other is None else blocks.pop(other, None)
    for layer, block in blocks.items():
        read = Weights("pretrained", block.source, block.sha256, block.licence)
        arms += [Arm(spec, control, read, layer, block, second) for control in ("pretrained", "trainable", "lora")
                 if control == "pretrained" or control in wanted]  # fmt: skip
        if "shuffled" in wanted:
            arms.append(Arm(spec, "shuffled", replace(read, kind="shuffled"), layer, block, second))
    made = [name for name in wanted if name in _MADE]
    if given == "random" and "random" not in made:
        made.insert(0, "random")
    if not blocks:
        spec, left = _without_weights(spec, given, study, arms, made)
        notices += left
    unmatched = _unmatched(spec, study, made)
    notices += unmatched.values()
    for name in made:
        if name not in unmatched:
            layers = found.layers if name == "random" and _layer_matters(spec, study) else (None,)
            arms += [Arm(spec, name, Weights(name, _MADE[name]), layer) for layer in layers]
    return arms


def _check_second(found: Backbone, layer: int | None) -> None:
    """StudyError for a second layer that the model does not have, or that stands at the first place already."""
    spec = found.spec
    if layer is not None and layer >= spec.layers:
        raise StudyError(f"block.second_layer: {layer}: {spec.name!r} has layers 0 to {spec.layers - 1}, not {layer}")
    if layer in found.layers:
        raise StudyError(
            f"block.second_layer: {layer} is the layer of {spec.name!r} at the first place, too; name another, or "
            "leave it out for the same block at both places"
        )


def _layer_matters(spec: BackboneSpec, study: StudySpec) -> bool:
    """Whether an untrained block depends on its layer: by the rotary embedding of its kind, or by a scale."""
    return bool(study.resolved()["block"]["rotary"] or spec.config.get("scale_attn_by_inverse_layer_idx"))


def _unmatched(spec: BackboneSpec, study: StudySpec, made: list[str]) -> dict[str, str]:
    """The controls of capacity that no size fits, and why; an error where one was asked for by name."""
    left = dict[str, str]()
    wanted = [name for name in made if name in ("mlp", "depth")]
    if not wanted:
        return left
    import torch

    from mvl.matched import Matched

    models = [SegmenterConfig.of(each["model"] | {"channels": 1, "classes": 2}) for each in study.each_resolved()]
    for name, config in itertools.product(wanted, models):
        try:
            with torch.device("meta"):
                Matched(name, spec.width).build(config)
        except ValueError as error:
            if "all" not in study.controls:
                raise StudyError(f"{spec.name}: {error}") from error
            left[name] = f"{spec.name}: left out {name}: {error}"
    return left


def _blocks(found: Backbone, given: str | None, second: int | None, study: StudySpec, say: Say) -> dict[int, BlockFile]:
    """The verified block file of each layer and of the second; none at all where a stand-in is to take their place."""
    spec, blocks = found.spec, dict[int, BlockFile]()
    layers = found.layers if second is None else (*found.layers, second)
    for layer in layers:
        block = weights.fetch(spec, layer, given, say, apart=True) if given else _kept(spec, layer, say)
        if block is not None:
            weights.verify(spec, block)
            blocks[layer] = block
    missing = [layer for layer in layers if layer not in blocks]
    if missing and not (study.phantom and not blocks):
        raise StudyError(f"--backbones {spec.name}: {weights.missing_words(spec, *missing)}")
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
    # The second one tells of a damaged file, which the first one has made anew if it could.
    return (weights.from_local_cache(spec, layer, say) if spec.repo else None) or weights.find(spec, layer)
