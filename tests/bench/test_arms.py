"""Which arms a study has: the controls it asks for, and what is left out, refused or found on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backbones import weights
from bench.arms import Arm, find_arms
from bench.study import CONTROLS, StudyError, StudySpec
from bench.trial import attempt, build_segmenter
from mvl.config import SegmenterConfig
from mvl.matched import trainable_parameters
from results.record import Status
from tests.backbones import tiny
from tests.bench.trial_room import SMALL, jobs_of


@pytest.fixture
def checkpoint(tmp_path, cache):
    """A folder with a tiny checkpoint of the gpt2 family, which the registry does not know."""
    return tiny.write_checkpoint(tmp_path / "little", tiny.spec("gpt2"))


def arms_of(study: StudySpec) -> list[Arm]:
    problems: list[str] = []
    arms, _ = find_arms(study, lambda line: None, problems)
    if problems:
        raise StudyError("\n".join(problems))
    return list(arms)


def names(study: StudySpec) -> list[tuple[str, int | None]]:
    return [(arm.control, arm.layer) for arm in arms_of(study)]


def study(checkpoint, *controls: str, **changes) -> StudySpec:
    fields = {"backbones": (str(checkpoint),), "data": "somewhere", "settings": SMALL} | (
        {"controls": controls} if controls else {}
    )
    return StudySpec(**(fields | changes))


def test_the_standard_controls_are_the_baseline_and_the_random_twin(checkpoint):
    assert names(study(checkpoint)) == [("none", None), ("pretrained", 11), ("random", None)]
    assert names(study(checkpoint, "none")) == [("none", None), ("pretrained", 11)]


def test_all_controls_and_each_once_whatever_the_number_of_layers(checkpoint):
    found = names(study(checkpoint, "all", backbones=(f"{checkpoint}@11",)))
    assert sorted(name for name, _ in found) == sorted(["none", "pretrained", *CONTROLS])
    (row,) = {arm.backbone.name for arm in arms_of(study(checkpoint)) if arm.backbone}
    assert row == "little"
    with pytest.raises(StudyError, match=r"no tensors of layer 3|shard a.safetensors of layer 3 is missing"):
        names(study(checkpoint, "all", backbones=(f"{checkpoint}@3,11",)))


def test_several_layers_are_several_arms_and_one_set_of_controls(checkpoint, monkeypatch):
    row = tiny.spec("gpt2")
    kept = weights.fetch(row, 11, checkpoint)
    monkeypatch.setattr(weights, "fetch", lambda spec, layer, *_, **__: replace(kept, layer=layer))
    found = names(study(checkpoint, "random", "shuffled", "mlp", backbones=(f"{checkpoint}@3,11",)))
    assert found == [
        *(("none", None), ("pretrained", 3), ("shuffled", 3), ("pretrained", 11), ("shuffled", 11)),
        *(("random", None), ("mlp", None)),
    ]


def test_what_reads_no_weights_says_so(checkpoint):
    by_name = {arm.control: arm for arm in arms_of(study(checkpoint, "all"))}
    read = {name for name, arm in by_name.items() if arm.weights.sha256}
    assert read == {"pretrained", "shuffled", "trainable", "lora"}
    assert {by_name[name].weights.kind for name in ("pretrained", "trainable", "lora")} == {"pretrained"}
    assert by_name["shuffled"].weights.kind == "shuffled"
    assert by_name["shuffled"].weights.label.startswith("shuffled sha256:")


def test_the_phantom_leaves_out_what_needs_weights_and_says_so():
    problems: list[str] = []
    arms, notices = find_arms(StudySpec(backbones=("llama3",), controls=("all",)), lambda line: None, problems)
    assert [arm.control for arm in arms] == ["none", "stand-in", "identity", "mlp", "depth"] and not problems
    assert {arm.backbone.width for arm in arms[2:]} == {64}  # the stand-in's, not that of the real model
    (unread,) = notices
    assert unread.startswith("llama3: left out shuffled, trainable, lora, which need pre-trained weights: ")


def test_what_cannot_be_matched_is_left_out_or_refused(cache):
    asked = StudySpec(
        backbones=("smollm2",), data="x", weights={"*": "random"}, controls=("all",),
        settings={"model": {"width": 4096, "mapper_lora": 1, "heads": 2}},
    )  # fmt: skip
    problems: list[str] = []
    arms, notices = find_arms(asked, lambda line: None, problems)
    assert "depth" not in [arm.control for arm in arms] and not problems
    assert any(text.startswith("smollm2: left out depth: --controls depth: the arm trains ") for text in notices)
    with pytest.raises(StudyError, match="smollm2: --controls depth: the arm trains"):
        arms_of(replace(asked, controls=("depth",)))


def test_the_digest_tells_sizes_and_settings_apart_where_they_matter(cache):
    def chosen(**changes) -> dict[str, dict]:
        asked = StudySpec(**({"backbones": ("smollm2",), "controls": ("all",)} | changes))
        return {arm.control: arm.settings(asked.resolved()["block"]) for arm in arms_of(asked)}

    small, real = chosen(), chosen(weights={"*": "random"})
    for name in ("identity", "mlp", "depth"):
        assert small[name] != real[name]  # the width of the stand-in and of the real block
    causal = chosen(settings={"block": {"causal": "true"}})
    assert causal["stand-in"] != small["stand-in"] and causal["identity"] == small["identity"]
    assert chosen(settings={"block": {"lora_rank": 8}}) == small  # no arm here has a LoRA


def test_untrained_twins_are_one_a_layer_only_where_the_layer_matters(cache):
    def layers(**changes) -> list[int | None]:
        asked = StudySpec(backbones=("gemma3-270m@3,17",), data="x", weights={"*": "random"}, **changes)
        return [arm.layer for arm in arms_of(asked) if arm.control == "random"]

    assert layers() == [None] and layers(settings={"block": {"rotary": "true"}}) == [3, 17]


def test_references_come_last_each_with_what_decides_its_numbers():
    asked = StudySpec(backbones=("gpt2",), data="x", weights={"*": "random"}, references=("unetr", "segresnet"))
    arms = arms_of(asked)
    assert [(arm.name, arm.control) for arm in arms[-2:]] == [("unetr", "reference"), ("segresnet", "reference")]
    assert arms[-1].weights.label == "reference" and arms[-1].settings(asked.resolved()["block"]) == {}
    unetr, segresnet = (arm.model(asked.resolved()) for arm in arms[-2:])
    assert unetr["width"] == 64 and "width" not in segresnet and segresnet["features"] == 8
    wider = replace(asked, settings={"reference": {"segresnet": "16"}}).resolved()
    assert arms[-1].model(wider)["features"] == 16 and arms[-2].model(wider) == unetr
    assert arms[0].model(wider) == arms[1].model(wider) == asked.resolved()["model"]


def test_a_reference_and_a_backbone_of_one_name_are_refused(tmp_path, cache):
    folder = tiny.write_checkpoint(tmp_path / "unetr", tiny.spec("gpt2"))
    with pytest.raises(StudyError, match=r"--references unetr: a backbone of --backbones goes by this name; rename"):
        arms_of(study(folder, references=("unetr",)))


def test_a_control_that_cannot_be_is_an_error_where_it_was_asked_for_by_name():
    with pytest.raises(StudyError, match=r"--controls shuffled: they need pre-trained weights of 'gpt2', but"):
        arms_of(StudySpec(backbones=("gpt2",), controls=("shuffled",)))
    with pytest.raises(StudyError, match=r"--weights random says to read none"):
        arms_of(StudySpec(backbones=("gpt2",), data="x", controls=("lora",), weights={"gpt2": "random"}))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"controls": ("suffled",)}, r"unknown control 'suffled'; did you mean 'shuffled'\? available: standard, all"),
        ({"backbones": ("gpt2", "gpt3")}, "unknown backbone 'gpt3'"),
        ({"backbones": ("unetr",)}, "unknown backbone 'unetr'.*; a reference model is asked for by --references unetr"),
        ({"references": ("dynunt",)}, r"--references: unknown reference 'dynunt'; did you mean 'dynunet'\?"),
        ({"settings": {"reference": {"segresnet": 12}}}, "reference.segresnet: 12 is not a positive multiple of 8"),
        ({"settings": {"reference": {"unet": 12}}}, "reference.unet: unknown setting; known: dynunet,"),
        ({"backbones": ("8",)}, "'8' is a layer of nothing"),
        ({"backbones": ("gpt2@12",)}, r"gpt2@12: 'gpt2' has layers 0 to 11, not 12"),
        (
            {"backbones": ("gpt2",), "weights": {"gpt3": "x"}},
            r"--weights gpt3=…: 'gpt3' is not among --backbones \(gpt2",
        ),
        ({"backbones": ("opt-125m",), "data": "x"}, "bench weights fetch opt-125m"),
        ({"backbones": ("llama3",), "data": "x"}, "accepting the licence at .* and setting HF_TOKEN"),
    ],
)
def test_bad_requests_are_one_line_each(fields, words, cache):
    with pytest.raises(ValueError, match=words):
        arms_of(StudySpec(**fields))


def test_two_checkpoints_of_one_name_are_refused(checkpoint, tmp_path):
    other = tiny.write_checkpoint(tmp_path / "other" / "little", tiny.spec("gpt2"))
    with pytest.raises(StudyError, match=r"another one goes by the name 'little'"):
        arms_of(study(checkpoint, backbones=(str(checkpoint), str(other))))


@pytest.mark.parametrize(("lora", "precision"), [(0, "fp32"), (4, "bf16")])
def test_every_control_trains_and_is_scored(checkpoint, tiny_msd, tmp_path, lora, precision):
    """At tiny size, without Ray: the mappers trained whole, and by LoRA under bf16 autocast."""
    changes = {"model": SMALL["model"] | {"mapper_lora": lora}, "train": SMALL["train"] | {"precision": precision}}
    asked = study(checkpoint, "all", data=str(tiny_msd), out=str(tmp_path / "run"), settings=changes)
    jobs = jobs_of(asked)
    records = [attempt(job, lambda entry, share: None) for job in jobs]
    assert [record.status for record in records] == [Status.COMPLETE] * len(jobs), [r.error for r in records]
    costs = {record.spec.control: record.cost for record in records}
    frozen = {name: cost["frozen_parameters"] for name, cost in costs.items()}
    assert frozen["pretrained"] == frozen["random"] == frozen["shuffled"] == frozen["lora"] > 0
    mappers = frozen["identity"]  # what LoRA leaves as it was
    assert frozen["none"] == frozen["mlp"] == frozen["depth"] == 0 and frozen["trainable"] == mappers
    assert (mappers > 0) == (lora > 0)
    added = {name: cost["trainable_parameters"] - costs["none"]["trainable_parameters"] for name, cost in costs.items()}
    assert added["pretrained"] == added["random"] == added["shuffled"] == added["identity"]
    assert added["mlp"] == added["depth"] == added["pretrained"]
    assert added["trainable"] == added["pretrained"] + frozen["pretrained"] - mappers
    assert added["pretrained"] < added["lora"] < added["trainable"]
    assert len({str(record.curve) for record in records}) == len(records)  # no two arms are the same arm


@pytest.mark.parametrize("control", ["pretrained", "trainable", "lora", "random", "identity", "mlp"])
def test_all_arms_start_from_the_same_shared_values(checkpoint, tiny_msd, tmp_path, control):
    asked = study(checkpoint, "all", data=str(tiny_msd), out=str(tmp_path / "run"))
    by_name = {job.spec.control: job for job in jobs_of(asked)}
    models = {name: build_segmenter(by_name[name], SegmenterConfig.of(by_name[name].spec.model))
              for name in ("none", control)}  # fmt: skip
    bare, other = models["none"].state_dict(), models[control].state_dict()
    assert all((bare[name] == other[name]).all() for name in bare)
    assert trainable_parameters(models[control]) > trainable_parameters(models["none"])
