"""Studies: files and flags, presets and overrides, and the settings a run folder is bound to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.presets import PHANTOM_STEPS, PRESETS, parse_override, resolve
from bench.study import StudyError, StudySpec, bind, check_bound, load


def test_the_phantom_trains_for_less_unless_told():
    assert StudySpec().resolved()["train"]["steps"] == PHANTOM_STEPS
    assert StudySpec(data="x").resolved()["train"]["steps"] == PRESETS["cpu"]["train"]["steps"]
    assert StudySpec(settings={"train": {"steps": 7}}).resolved()["train"]["steps"] == 7


def test_a_toml_file_sets_what_flags_would(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('backbones = ["llama3"]\nseeds = [0, 1]\n[train]\nsteps = 5\n[model]\npatch = [8, 8, 8]\n')
    study = StudySpec(**load(path))
    assert (study.backbones, study.seeds) == (("llama3",), (0, 1))
    assert study.resolved()["train"]["steps"] == 5 and study.resolved()["model"]["patch"] == (8, 8, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("backbone = ['x']", "unknown key 'backbone'"),
        ("backbones = [", "cannot be read as TOML"),
        ("[data]\nmax_voxels = 1", r"\[preparation\]"),
        ("seeds = '0'", "seeds is .* a list of int"),
        ("backbones = [3]", "backbones is .* a list of str"),
        ("weights = 'random'", "weights is 'random'; it must be a table"),
        ("train = 5", "train must be a table"),
        ("preset = ['cpu']", "preset is .* of type str"),
        ("fractions = ['a']", "fractions is .* a list of float"),
        ("folds = 'some'", "folds is .* a list of int"),
        ("labels = 1", "labels is 1; it must be of type str"),
        ("workers_per_trial = '2'", "workers_per_trial is .* of type int"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, words):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(StudyError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seeds": (-1,)}, "--seeds"),
        ({"folds": ()}, "--folds"),
        ({"fractions": ()}, "--fraction"),
        ({"fractions": (0.0,)}, "--fraction: .* above 0 and at most 1"),
        ({"fractions": (1.5,)}, "--fraction"),
        ({"fractions": (float("nan"),)}, "--fraction"),
        ({"fractions": (0.1, 0.1)}, "none twice"),
        ({"labels": "merged"}, "--labels: 'merged' is not one of official, binary"),
        ({"backbones": ()}, "--backbones"),
        ({"preset": "gpu"}, "--preset: unknown preset 'gpu'; known: cpu, default"),
        ({"zero_stage": 4}, "--zero-stage"),
        ({"seeds": (0, 0)}, "none twice"),
        ({"max_concurrent": -1}, "--max-concurrent"),
        ({"settings": {"train": {"weight_decay": -1}}}, "train.weight_decay"),
        ({"workers_per_trial": 0}, "--workers-per-trial"),
        ({"settings": {"train": {"step": 1}}}, "train.step: unknown setting; known: augment, batch,"),
        ({"settings": {"train": {"steps": "many"}}}, "train.steps: 'many' is not a whole number"),
        ({"settings": {"train": {"steps": 0}}}, "train.steps: 0 is not a positive whole number"),
        ({"settings": {"train": {"steps": 1.5}}}, "train.steps: 1.5"),
        ({"settings": {"model": {"width": "11"}}}, "model.width: 11 is not divisible by model.heads 2"),
        ({"settings": {"data": {"overlap": "1"}}}, "data.overlap"),
        ({"controls": ("external",)}, "external"),
        ({"settings": {"data": {"tolerance": "-1"}}}, "data.tolerance: -1.0 is no distance in mm"),
        ({"settings": {"data": {"tolerance": "inf"}}}, "data.tolerance"),
    ],
)
def test_bad_values_are_refused_when_the_study_is_made(fields, words):
    with pytest.raises(StudyError, match=words):
        StudySpec(**fields)


@pytest.mark.parametrize("text", ["steps=1", "train.steps", "other.x=1", "train.=1"])
def test_an_override_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="is not of the form"):
        parse_override(text)


def test_overrides_take_the_presets_type():
    settings = resolve("cpu", {"train": {"lr": "1e-4"}, "model": {"residual": "false", "patch": "8,8,2"}})
    assert settings["train"]["lr"] == 1e-4
    assert settings["model"]["residual"] is False and settings["model"]["patch"] == (8, 8, 2)


def test_a_run_folder_keeps_to_its_settings(tmp_path):
    study = StudySpec(backbones=("llama3",))
    check_bound(study, tmp_path)
    bind(study, tmp_path)
    check_bound(replace(study, backbones=("mistral",), seeds=(0, 1)), tmp_path)
    with pytest.raises(StudyError, match=r"made with train.steps = 36, the command asks for 9; .* --out"):
        check_bound(replace(study, settings={"train": {"steps": 9}}), tmp_path)
    with pytest.raises(StudyError, match="made with data = 'phantom'"):
        check_bound(replace(study, data=str(tmp_path), settings={"train": {"steps": 36}}), tmp_path)
    (tmp_path / "study.toml").write_text("broken [")
    with pytest.raises(StudyError, match=r"study.toml: cannot be read"):
        check_bound(study, tmp_path)


@pytest.mark.parametrize("data", [None, "somewhere"])
def test_a_run_folders_study_can_be_run_again(tmp_path, data):
    study = StudySpec(
        backbones=("llama3", "gpt2"), data=data, seeds=(0, 3), weights={"gpt2": "random"}, command="bench run",
        settings={"train": {"steps": 7}, "model": {"patch": (8, 8, 4)}, "data": {"overlap": 0.1}},
    )  # fmt: skip
    bind(study, tmp_path)
    again = StudySpec(**load(tmp_path / "study.toml"))
    assert again.fixed() == study.fixed()
    assert (again.backbones, again.seeds, again.weights) == (study.backbones, study.seeds, study.weights)


def test_a_run_folders_study_names_files_by_their_full_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    study = StudySpec(backbones=("./mine@3", "gpt2@1,2"), weights={"gpt2": "mine"}, data="mine")
    bind(study, tmp_path / "run")
    again = load(tmp_path / "run" / "study.toml")
    assert again["backbones"] == (f"{tmp_path / 'mine'}@3", "gpt2@1,2")
    assert again["weights"] == {"gpt2": str(tmp_path / "mine")}


def test_splits_and_labels_come_from_a_file_and_are_kept(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('folds = "all"\nfractions = [0.1, 1]\nlabels = "binary"\n')
    study = StudySpec(**load(path))
    assert (study.folds, study.fractions, study.labels) == ("all", (0.1, 1.0), "binary")
    bind(study, tmp_path)
    again = StudySpec(**load(tmp_path / "study.toml"))
    assert (again.folds, again.fractions, again.labels) == ("all", (0.1, 1.0), "binary")


def test_a_csv_names_its_run_folder_and_stays_a_link(tmp_path):
    real, link = tmp_path / "store" / "abc", tmp_path / "lists" / "mine.csv"
    for path in (real, link):
        path.parent.mkdir()
    real.write_text("image,label\n")
    link.symlink_to(real)
    study = StudySpec(data=str(link))
    assert study.run == Path("runs") / "mine-cpu"
    assert study.fixed()["data"] == str(link)


@pytest.mark.parametrize("name", ["../up", "a b", "ünï"])
def test_the_default_run_folder_stays_below_runs(tmp_path, name):
    (tmp_path / "x").mkdir()
    study = StudySpec(data=str(tmp_path / "x" / name))
    assert study.run.parent.name == "runs" and ".." not in study.run.parts


def test_the_example_file_is_a_study():
    study = StudySpec(**load(Path(__file__).parents[2] / "examples" / "study.toml"))
    assert study.resolved()["model"]["attention"] == "global"
