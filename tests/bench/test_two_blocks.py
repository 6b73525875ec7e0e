"""Two layers of one LLM at two places of the segmenter: which stands where, what is recorded, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from backbones import block, weights
from backbones.request import Request, resolve
from backbones.spec import BackboneSpec
from bench import plan, work
from bench.arms import find_arms
from bench.data.folder import read_label
from bench.presets import resolve as resolve_settings
from bench.study import StudyError, StudySpec, check_bound, load
from bench.trained import find_trial, load_model
from bench.trial import TrialJob, attempt, build_segmenter
from mvl.config import SegmenterConfig
from results import pairs, store, summary
from results.record import ANY_LAYER, Status, TrialResult, TrialSpec, Weights
from tests.backbones import tiny
from tests.bench.fault_room import kill_at, lasting, models, quiet
from tests.bench.predict_room import cases_of, counts, image_of, trained
from tests.bench.trial_room import SMALL, jobs_of
from tests.bench.tune_room import searched
from tests.results import fake

#: The layer at the first place, which is the row's own, that at the second, and another for there.
FIRST, SECOND, OTHER = 11, 3, 7
PLACES = {"train": {"steps": 2, "epochs": 1}, "model": SMALL["model"] | {"width": 64, "placement": "middle+after"}}
TWO = PLACES | {"block": {"second_layer": SECOND}}
READING = ("pretrained", "shuffled", "trainable", "lora")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny sharded checkpoint of the gpt2 family with three layers; the shard of all others is not there."""
    return tiny.write_checkpoint(tmp_path_factory.mktemp("hf") / "little", tiny.spec("gpt2"), more=(SECOND, OTHER))


@pytest.fixture(scope="module")
def row(checkpoint) -> BackboneSpec:
    return resolve(Request(str(checkpoint))).spec


class Done(NamedTuple):
    """Trained trials by control, the study they are of, and its one-block twin."""

    two: StudySpec
    one: StudySpec
    jobs: dict[str, TrialJob]
    records: dict[str, TrialResult]
    before: dict[str, TrialResult]


@pytest.fixture(scope="module")
def done(tiny_msd, checkpoint, tmp_path_factory) -> Done:
    out = tmp_path_factory.mktemp("runs")
    two = StudySpec(
        backbones=(str(checkpoint),), controls=("all",), data=str(tiny_msd), settings=TWO, out=str(out / "two")
    )
    one = replace(two, settings=PLACES, controls=("random",), out=str(out / "one"))
    made = trained(two, "none", "random", "identity", *READING)
    return Done(
        two,
        one,
        {job.spec.control: job for job, _ in made},
        {record.spec.control: record for _, record in made},
        {record.spec.control: record for _, record in trained(one)},
    )


def block_of(row: BackboneSpec, checkpoint: Path, layer: int) -> block.FrozenBlock:
    """The block of a layer, straight from the checkpoint."""
    return block.from_tensors(row, layer, weights.read(row, layer, checkpoint))


def test_the_trials_layer_stands_first_and_the_second_layer_after_it(done, row, checkpoint):
    model = load_model(find_trial(done.two.run / done.jobs["pretrained"].spec.digest))
    x_BND = torch.randn(1, 5, row.width)
    first, second = (block_of(row, checkpoint, layer)(x_BND) for layer in (FIRST, SECOND))
    assert torch.equal(model.adapters["middle"].block(x_BND), first)
    assert torch.equal(model.adapters["after"].block(x_BND), second) and not torch.allclose(first, second)
    seen: list[torch.nn.Module] = []
    for adapter in model.adapters.values():
        adapter.block.register_forward_hook(lambda part, *_: seen.append(part))
    model(torch.randn(1, 1, 16, 16, 16))
    assert seen == [model.adapters["middle"].block, model.adapters["after"].block]
    assert not any(p.requires_grad for part in seen for p in part.parameters())


def test_the_record_has_both_layers_and_hashes_and_the_digest_is_another(done):
    record, before = done.records["pretrained"], done.before["pretrained"]
    spec, second = record.spec, record.provenance["second_weights"]
    assert (spec.layer, spec.block["second_layer"]) == (FIRST, SECOND) == (before.spec.layer, SECOND)
    assert spec.block["second_sha256"] == second["sha256"] != spec.weights.sha256 == before.spec.weights.sha256
    assert second["source"] and second["kind"] == "pretrained"
    assert record.second_weights == Weights(**second) and before.second_weights is None
    assert spec.digest != before.spec.digest and record.curve != before.curve
    assert spec.digest != replace(spec, block=spec.block | {"second_sha256": "other"}).digest
    assert TrialResult.from_json(record.to_json()) == record
    assert not {"second_layer", "second_sha256"} & before.spec.block.keys()
    assert "second_weights" not in before.provenance


def test_both_blocks_are_counted_and_the_controls_follow(done, row):
    frozen = {name: record.cost["frozen_parameters"] for name, record in done.records.items()}
    learned = {name: record.cost["trainable_parameters"] for name, record in done.records.items()}
    one = done.before["pretrained"].cost["frozen_parameters"]
    assert frozen["pretrained"] == frozen["random"] == frozen["shuffled"] == frozen["lora"] == 2 * one > 0
    assert learned["trainable"] == learned["pretrained"] + 2 * one and frozen["trainable"] == 0
    assert learned["pretrained"] == learned["random"] == learned["identity"] < learned["lora"]
    assert (
        work.block_parameters(done.jobs["pretrained"]) == 2 * one and work.block_parameters(done.jobs["identity"]) == 0
    )
    assert {"random", *READING} == {c for c, record in done.records.items() if "second_layer" in record.spec.block}
    assert {c for c, record in done.records.items() if "second_sha256" in record.spec.block} == set(READING)
    assert len({str(record.curve) for record in done.records.values()}) == len(done.records)


@pytest.mark.parametrize("control", ["random", "shuffled"])
def test_two_places_have_two_draws(done, row, checkpoint, control):
    job = done.jobs[control]
    model = build_segmenter(job, SegmenterConfig.of(job.spec.model))
    places = [dict(model.adapters[place].block.layer.named_parameters()) for place in ("middle", "after")]
    large = [name for name, value in places[0].items() if value.std() > 0]
    assert large and not any(torch.equal(places[0][name], places[1][name]) for name in large)
    if control == "shuffled":
        for layer, mixed in zip((FIRST, SECOND), places, strict=True):
            for name, tensor in weights.read(row, layer, checkpoint).items():
                assert torch.equal(mixed[name].flatten().sort().values, tensor.flatten().sort().values)


def test_what_has_no_block_of_an_llm_is_the_trial_it_was(done):
    asked = replace(done.one, controls=("identity", "mlp", "depth"))
    old, new = ({job.spec.control: job.spec.digest for job in jobs_of(study)} for study in (asked, done.two))
    names = {"none", "identity", "mlp", "depth"}
    assert {name: old[name] for name in names} == {name: new[name] for name in names}
    assert old["pretrained"] != new["pretrained"]


@pytest.mark.parametrize("control", ["random", *READING])
def test_predictions_are_those_that_were_scored(done, bench, tmp_path, control):
    job, record = done.jobs[control], done.records[control]
    score = record.cases[0]
    case = cases_of(job)[score.case]
    code, out, err = bench("predict", done.two.run / job.spec.digest, image_of(case), "--to", tmp_path / "out")
    assert code == 0, err
    prediction = np.asanyarray(nib.load(out.strip()).dataobj)
    assert (score.tp, score.fp, score.fn) == counts(prediction, read_label(case), 1)


def test_a_second_block_that_is_gone_is_named_with_its_layer(done, bench, monkeypatch, tmp_path, row):
    spec = done.jobs["pretrained"].spec
    kept = [found for found in weights.survey([row.name]) if found.block.sha256 != spec.block["second_sha256"]]
    monkeypatch.setattr(weights, "survey", lambda *_, **__: kept)
    image = image_of(cases_of(done.jobs["pretrained"])["tiny_0"])
    code, _, err = bench("predict", done.two.run / spec.digest, image, "--to", tmp_path / "out")
    assert code == 2 and f"sha256 {spec.block['second_sha256'][:12]}" in err and f"@{SECOND}`" in err, err


def test_a_trial_that_was_killed_ends_as_one_that_was_not(done, tmp_path):
    job = next(job for job in jobs_of(replace(done.two, out=str(tmp_path / "run"), checkpoint_every="1 steps"))
               if job.spec.control == "lora")  # fmt: skip
    kill_at(job, 2)
    record = attempt(job, quiet)
    assert record.status is Status.COMPLETE and record.provenance["taken_up"], record.error
    assert lasting(record) == lasting(done.records["lora"])
    assert models(Path(job.run)).items() <= models(done.two.run).items()


def test_one_report_of_both_names_what_tells_them_apart(done, bench, tmp_path):
    code, _, err = bench("report", done.one.run, done.two.run, "--to", tmp_path / "all")
    assert code == 0, err
    tables = tmp_path / "all" / "report" / "tables"
    arms = set(pd.read_csv(tables / "by_task.csv")["arm"])
    assert {"little", f"little, second layer {SECOND}", "little (random twin), second layer any"} <= arms
    read = pd.read_csv(tables / "weights.csv").set_index("Arm").loc[f"little, second layer {SECOND}"]
    spec = done.jobs["pretrained"].spec
    assert list(read["Layer"].astype(int)) == [FIRST, SECOND]
    assert list(read["SHA-256"]) == [spec.weights.sha256, spec.block["second_sha256"]]
    text = (tmp_path / "all" / "report" / "report.md").read_text()
    assert f"| little, second layer {SECOND} | {SECOND} |" in text and "| Second layer |" in text
    code, _, err = bench("export", tmp_path / "all", "--to", "board.csv")
    board = pd.read_csv(tmp_path / "board.csv").set_index("arm")
    assert board.loc[f"little, second layer {SECOND}", "weights_sha256"].split("; ") == list(read["SHA-256"])


def test_runs_of_several_second_layers_share_a_random_twin(done, bench, tmp_path):
    settings = PLACES | {"block": {"second_layer": OTHER}}
    study = replace(done.two, settings=settings, controls=("random",), out=str(tmp_path / "other"))
    specs = {job.spec.control: job.spec for job in jobs_of(study)}
    assert specs["random"].digest == done.jobs["random"].spec.digest != done.before["random"].spec.digest
    assert specs["pretrained"].digest != done.jobs["pretrained"].spec.digest
    trained(study, "pretrained")
    code, _, err = bench("report", done.one.run, done.two.run, study.run, "--to", tmp_path / "all")
    assert code == 0, err
    rows = pairs.questions(summary.trial_table(store.read(tmp_path / "all")))
    against = dict(rows[rows["question"] == "random"][["arm", "against"]].values)
    two = "little (random twin), second layer any"
    several = {f"little, second layer {layer}": two for layer in (SECOND, OTHER)}
    assert against == {"little": "little (random twin)"} | several
    tables = tmp_path / "all" / "report" / "tables"
    arms = pd.read_csv(tables / "by_task.csv")["arm"]
    assert sorted(arm for arm in arms if "random twin" in arm) == ["little (random twin)", two]


def test_a_random_block_that_depends_on_its_layer_keeps_the_number(cache):
    settings = TWO | {"block": {"second_layer": SECOND, "rotary": True}}
    problems: list[str] = []
    asked = StudySpec(backbones=("llama3",), weights={"*": "random"}, settings=settings)
    arms, _ = find_arms(asked, lambda line: None, problems)
    (arm,) = [arm for arm in arms if arm.control == "random"]
    assert not problems and arm.layer is not None
    assert arm.settings(resolve_settings("cpu", settings)["block"])["second_layer"] == SECOND


def test_a_failed_trial_tells_of_both_blocks_as_a_complete_one_does(done, bench, tmp_path):
    job, run = done.jobs["pretrained"], tmp_path / "run"
    spec = job.spec.with_seed(1)
    run.mkdir()
    plan.remember(run, [spec])
    failed = attempt(replace(job, spec=spec, data=str(tmp_path), run=str(run)), quiet)
    assert failed.status is Status.FAILED and failed.second_weights == done.records["pretrained"].second_weights
    code, _, err = bench("report", done.two.run, run, "--to", tmp_path / "all")
    assert code == 0, err
    rows = pd.read_csv(tmp_path / "all" / "report" / "tables" / "weights.csv").set_index("Arm")
    assert list(rows.loc["little", "Layer"].astype(int)) == [FIRST, SECOND]


def test_the_plan_takes_the_flag_and_counts_both(bench, checkpoint, tiny_msd, done):
    asked = ["--backbones", checkpoint, "--data", tiny_msd, "--placement", "before+middle"]
    code, out, err = bench("plan", *asked, "--second-layer", SECOND, "--out", "run")
    assert code == 0, err
    one = done.before["pretrained"].cost["frozen_parameters"]
    assert f"{2 * one:,}" in out.replace("\n", "")
    code, out, err = bench("plan", *asked, "--out", "run", "--second-layer", "none")
    assert code == 0 and f"{one:,}" in out and f"{2 * one:,}" not in out, err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--second-layer", "3"], "--second-layer: 3 is the layer at a second place, but model.placement 'after' has"),
        (["--placement", "middle,middle+after", "--second-layer", "3"], "but model.placement 'middle' has one place"),
        (["--placement", "middle+after", "--second-layer", "12"], "'little' has layers 0 to 11, not 12"),
        (["--placement", "middle+after", "--second-layer", "11"], "11 is the layer of 'little' at the first"),
        (["--placement", "middle+after", "--second-layer", "-1"], "--second-layer: -1 is below 0"),
        (["--placement", "middle+after", "--second-layer", "x"], "--second-layer: 'x' is not a whole number, or none"),
        (["--placement", "middle+after", "--second-layer", "5"], "shard a.safetensors of layer 5 is missing"),
        (["--set", "block.second_layer=3"], "--set block.second_layer: 3 is the layer at a second place"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_any_work(bench, checkpoint, tiny_msd, flags, words):
    code, _, err = bench("run", "--backbones", checkpoint, "--data", tiny_msd, "--out", "run", *flags)
    assert code == 2 and re.search(words, err.replace("\n", " ")) and "Traceback" not in err, err
    assert not Path("run").exists()


def test_missing_weights_are_told_of_both_layers(cache):
    asked = StudySpec(backbones=("opt-125m",), data="x", settings=TWO)
    problems: list[str] = []
    find_arms(asked, lambda line: None, problems)
    assert len(problems) == 1 and "bench weights fetch opt-125m@11,3`" in problems[0]


def test_a_stand_in_is_two_random_blocks(cache):
    problems: list[str] = []
    arms, _ = find_arms(StudySpec(backbones=("llama3",), settings=TWO), lambda line: None, problems)
    (arm,) = [arm for arm in arms if arm.control == "stand-in"]
    chosen = arm.settings(resolve_settings("cpu", TWO)["block"])
    spec: TrialSpec = replace(fake.spec(), backbone="llama3", control="stand-in", block=chosen, layer=None)
    job = TrialJob(spec, fake.task(), data="", run="", backbone=arm.backbone)
    model = build_segmenter(job, SegmenterConfig.of(TWO["model"] | {"channels": 1, "classes": 2}))
    one, other = (model.adapters[place].block.state_dict() for place in ("middle", "after"))
    assert not problems and chosen["second_layer"] == ANY_LAYER and "second_sha256" not in chosen
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_run_folder_keeps_to_its_second_layer(done):
    path = done.two.run / "study.toml"
    assert load(path)["settings"]["block"]["second_layer"] == SECOND
    assert "second_layer" not in load(done.one.run / "study.toml")["settings"]["block"]
    check_bound(done.two, done.two.run)
    for study, run, was in ((done.one, done.two.run, SECOND), (done.two, done.one.run, None)):
        with pytest.raises(StudyError, match=rf"made with block.second_layer = {was}, the command asks for"):
            check_bound(study, run)


def test_every_node_of_a_cluster_needs_both_files(done):
    from bench.launch.nodes import needs_of

    job = done.jobs["pretrained"]
    assert set(needs_of([job], None).blocks) == {str(job.block.path), str(job.second.path)}


def test_a_search_keeps_to_both_blocks_and_to_two_places(checkpoint, tiny_msd, done):
    asked = {"backbones": (str(checkpoint),), "settings": TWO}
    found = searched(tiny_msd, "lr=1e-3,1e-2", "placement=middle+after,before+after", **asked)
    spec = done.jobs["pretrained"].spec
    hashes = {str(FIRST): spec.weights.sha256, str(SECOND): spec.block["second_sha256"]}
    assert found.identity("random")["weights"] == hashes and found.first.second.layer == SECOND
    with pytest.raises(StudyError, match=r"--search placement=after,middle: block.second_layer: 3 is the layer at"):
        searched(tiny_msd, "placement=after,middle", **asked)
