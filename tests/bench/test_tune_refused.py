"""What `bench tune` refuses before anything is trained, and the words it has for it."""

from __future__ import annotations

import importlib.util

import pytest
from filelock import FileLock

import bench.tuning.tune as tuning
from tests.bench.tune_room import TASK


@pytest.mark.parametrize(
    ("cases", "more", "words"),
    [
        (2, [], "fold 0 trains on 1 patient(s) of 2; a search splits them again and needs 2 or more: give a task of 3"),
        (6, ["--fraction", "0.2"], "1 patient(s) of 6; a search splits them again and needs 2 or more: give a larger"),
    ],
)  # fmt: skip
def test_too_few_patients_are_told_with_how_many_it_takes(tune, make_task, tmp_path, cases, more, words):
    make_task(tmp_path / "data", cases=cases)
    code, _, err = tune("--data", tmp_path / "data", *more)
    assert code == 2 and words in err, err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--search", "depth=2,4"], "error: --search depth=2,4: unknown dimension 'depth'"),
        (["--search", "lr=1e-2..1e-4"], "did you mean 0.0001..0.01?"),
        (["--search", "lr=-1,1e-3"], "error: --search lr=-1.0,0.001: train.lr: -1.0 is not above 0"),
        (["--search", "placement=after,sideways"], "placement=after,sideways: model.placement: unknown value"),
        (["--search", "mapper_lora=-1"], "model.mapper_lora: -1 is not a whole number from 0"),
        (["--search", "layer=3,99"], "error: --search layer=3,99: 'gpt2' has layers 0 to 11, not 99"),
        (["--search", "layer=3,4"], "a block without pre-trained weights is the same at every layer"),
        (["--search", "lora_rank=2,4"], "they need pre-trained weights of 'gpt2'"),
        (["--samples", "0"], "error: --samples: 0 is below 1"),
        (["--rungs", "1"], "error: --rungs 1: asha stops at the rungs before the last"),
        (["--rungs", "99"], "--rungs 99: a training of 20 epochs (train.epochs, train.steps) has at most 4 such"),
        (["--rungs", "4", "--set", "train.epochs=6"], "error: --rungs 4: a training of 6 epochs"),
        (["--rungs", "4", "--steps", "6", "--method", "random"], "error: --rungs 4: a training of 6 epochs"),
        (["--out", "taken.toml"], "error: --out taken.toml: cannot be made or written to (taken.toml is a file)"),
        (["--out", "taken.toml/x"], "error: --out taken.toml/x: cannot be made or written to (taken.toml is a file)"),
        (["--folds", "all"], "a search tunes one fold"),
        (["--folds", "0,1"], "error: --folds 0,1: a search is of one"),
        (["--folds", "7"], "--folds 7: no such fold"),
        (["--seeds", "0,1"], "error: --seeds 0,1: a search is of one"),
        (["--tasks", "Task01_X,Task02_Y"], "error: --tasks Task01_X,Task02_Y: a search is of one task"),
        (["--backbones", "gpt2,none"], "error: --backbones gpt2,none: a search is of one"),
        (["--backbones", "none", "--search", "placement=after"], "placement=after: the baseline has no block"),
        (["--attention", "global,hybrid"], "a search takes several values by --search attention="),
        (["--budget", "10m"], "give steps or epochs"),
        (["--to", "taken.toml"], "error: --to taken.toml: is there already and was not written by a search"),
    ],
)  # fmt: skip
def test_bad_input_is_told_before_anything_is_trained(bench, tiny_msd, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(tuning, "_on_ray", lambda *_: pytest.fail("a sample was to run"))
    (tmp_path / "taken.toml").write_text('backbones = ["none"]\n')
    fixed = ["--backbones", "gpt2", "--weights", "random", "--data", tiny_msd, "--tasks", TASK]
    code, out, err = bench("tune", *fixed, *arguments)
    assert code == 2 and words in err and "Traceback" not in err, out + err
    assert (tmp_path / "taken.toml").read_text() == 'backbones = ["none"]\n'


@pytest.mark.skipif(importlib.util.find_spec("optuna") is not None, reason="optuna is installed")
def test_optuna_is_named_where_it_is_missing(tune, tiny_msd):
    code, _, err = tune("--data", tiny_msd, "--method", "optuna")
    assert code == 2 and "pip install 'frozen-block-bench[tune]'" in err


def test_a_folder_that_is_taken_is_told(tune, tiny_msd, tmp_path):
    arguments = ["--data", tiny_msd, "--search", "lr=1e-3", "--method", "random", "--out", "search"]
    (tmp_path / "search").mkdir()
    with FileLock(tmp_path / "search" / ".lock"):
        code, _, err = tune(*arguments)
    assert code == 2 and "search: another search is at work in this folder" in err
    (tmp_path / "search" / "plan.json").write_text("[]")
    code, _, err = tune(*arguments)
    assert code == 2 and "is the run folder of a study" in err


def test_a_damaged_sample_is_named(tune, tiny_msd, tmp_path):
    arguments = ["--data", tiny_msd, "--search", "lr=1e-3", "--method", "random", "--out", "search"]
    tune(*arguments)
    (tmp_path / "search" / "samples" / "0001.json").write_text("{")
    code, _, err = tune(*arguments)
    assert code == 2 and "0001.json: is damaged" in err
