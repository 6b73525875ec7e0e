"""`bench tune` at its door, without Ray: what a search is, and the study that it ends in."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from bench.study import StudySpec, load
from bench.trial import attempt as attempt_trial
from bench.tuning.samples import State, read
from results.record import Status
from tests.backbones import tiny
from tests.bench.trial_room import jobs_of
from tests.bench.tune_room import TASK, searched


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with all of its layers."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-gpt2"
    tiny.reference_model(tiny.spec("gpt2")).save_pretrained(folder)
    return folder


def test_the_best_sample_becomes_a_study_that_plans_and_runs(tune, bench, tiny_msd, tmp_path, checkpoint):
    arguments = ["--data", tiny_msd, "--method", "random", "--out", "search", "--to", "best.toml", "--rungs", "2"]
    axes = ["--search", "lr=1e-4,1e-2", "--search", "attention=global,hybrid", "--search", "mapper_lora=0,4"]
    code, out, err = tune(*arguments, *axes, "--samples", "3", backbone=checkpoint)
    assert code == 0, out + err
    assert "3 samples by random, 3 to run" in out and "3 samples: 3 complete; inner Dice on 1 cases" in out
    samples = read(tmp_path / "search")
    assert [sample.state for sample in samples] == [State.COMPLETE] * 3
    assert [[rung.step for rung in sample.rungs] for sample in samples] == [[2, 4]] * 3
    best = max(samples, key=lambda sample: sample.dice)

    text = (tmp_path / "best.toml").read_text()
    body = tomllib.loads(text)
    assert body["train"]["lr"] == best.values["lr"] and body["model"]["attention"] == best.values["attention"]
    assert body["model"]["mapper_lora"] == best.values["mapper_lora"] and body["model"]["image"] == [16, 16, 16]
    assert (body["folds"], body["tasks"], body["out"]) == ([0], [TASK], "runs/best")
    assert body["backbones"] == [str(checkpoint)]
    assert text.startswith(f"# Found by `bench tune`: sample {best.number}, inner Dice {best.dice:.4f} over 1 inner")
    for part in ("bench tune --backbones ", "3: 3 complete", "lr=0.0001,0.01", "scores on fold 0 are fair"):
        assert part in text.partition("\nout =")[0], part

    code, out, err = bench("plan", "--study", "best.toml")
    assert code == 0 and "3 trials, 0 complete, 3 to run; run folder: runs/best" in out, out + err
    study = StudySpec(**load(tmp_path / "best.toml"))
    jobs = jobs_of(study)
    record = attempt_trial(jobs[1], lambda entry, share: None)
    assert record.status is Status.COMPLETE and record.spec.control == "pretrained", record.error

    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "search" / "samples").iterdir()}
    code, out, _ = tune(*arguments, *reversed_pairs(axes), "--samples", "4", backbone=checkpoint)
    assert code == 0 and "4 samples by random, 1 to run" in out
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "search" / "samples").iterdir()}
    assert len(now) == 4 and before.items() <= now.items()


def reversed_pairs(flags: list[str]) -> list[str]:
    """The options in another order."""
    return [part for place in range(len(flags) - 2, -1, -2) for part in flags[place : place + 2]]


def test_layers_of_a_checkpoint_are_searched_and_the_winner_names_its_own(tune, bench, tiny_msd, tmp_path, checkpoint):
    code, out, err = tune(
        "--data", tiny_msd, "--search", "layer=0,2", "--search", "lora_rank=2", "--method", "random", "--out", "search",
        backbone=checkpoint,
    )  # fmt: skip
    assert code == 0, out + err
    samples = read(tmp_path / "search")
    assert sorted(sample.values["layer"] for sample in samples) == [0, 2]
    assert samples[0].dice != samples[1].dice
    best = max(samples, key=lambda sample: sample.dice)
    body = tomllib.loads((tmp_path / "search" / "tuned.toml").read_text())
    assert body["backbones"] == [f"{checkpoint}@{best.values['layer']}"]
    assert body["controls"] == ["standard", "lora"] and body["block"]["lora_rank"] == 2
    code, out, err = bench("plan", "--study", tmp_path / "search" / "tuned.toml")
    assert code == 0 and "4 trials" in out, out + err


def test_layers_in_the_name_of_the_backbone_are_searched_too(tiny_msd, checkpoint):
    search = searched(tiny_msd, backbones=(f"{checkpoint}@1,2",))
    assert [dimension.text for dimension in search.space] == ["lr=0.001,0.01", "layer=1,2"]
    assert {search.job({"lr": 1e-3, "layer": layer}).spec.layer for layer in (1, 2)} == {1, 2}


def test_the_baseline_is_searched_as_well(tune, tiny_msd, tmp_path):
    code, out, err = tune(
        "--data", tiny_msd, "--labels", "binary", "--samples", "1", "--method", "random", "--out", "s"
    )
    assert code == 0 and "searching lr=0.0001..0.01; attention=global,hybrid" in out, out + err
    body = tomllib.loads((tmp_path / "s" / "tuned.toml").read_text())
    assert (body["backbones"], body["tasks"], body["labels"]) == (["none"], [TASK], "binary")
    assert json.loads((tmp_path / "s" / "tuning.json").read_text())["task"] == f"{TASK}-binary"
