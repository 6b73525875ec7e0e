"""`bench tune` at its door, without Ray: what a search is, what it never opens, what it keeps and what it ends in."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import bench.tuning.tune as tuning
from bench import plan, preflight
from bench.data.folder import open_task
from bench.data.splits import make_split
from bench.study import StudySpec, load
from bench.trial import attempt as attempt_trial
from bench.tuning.sample import attempt
from bench.tuning.samples import OnSample, Sample, State, read
from bench.tuning.search import Search, Wish, make_search
from results import metrics
from results.record import Status
from tests.backbones import tiny

TASK = "Task99_Tiny"
SMALL = {"train": {"steps": 4, "epochs": 2}, "model": {"image": (16, 16, 16), "width": 16, "depth": 2, "heads": 2}}
SMALL_FLAGS = ["--steps", "4"] + [
    part
    for setting in ("model.image=16,16,16", "model.width=16", "model.depth=2", "model.heads=2", "train.epochs=2")
    for part in ("--set", setting)
]


def one_by_one(
    search: Search, wish: Wish, todo: Sequence[Sample], before: Sequence[Sample], on_sample: OnSample
) -> None:
    """What Ray does, in this process: samples in their order, each to its end."""
    for sample in todo:
        heard: list[Sample] = [sample]

        def tell(entry: dict[str, Any], heard: list[Sample] = heard) -> None:
            heard.append(heard[-1].told(entry))
            on_sample(heard[-1], 0.5)

        attempt(search, sample.values, tell)
        on_sample(heard[-1].ended(), 1.0)


@pytest.fixture
def tune(bench, monkeypatch):
    """`bench tune … ` of a small model, the baseline unless told otherwise, its samples one by one in this process."""
    monkeypatch.setattr(tuning, "_on_ray", lambda *_: one_by_one)

    def call(*arguments: object, backbone: object = "none"):
        return bench("tune", "--backbones", backbone, "--tasks", TASK, *SMALL_FLAGS, *arguments)

    return call


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with all of its layers."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-gpt2"
    tiny.reference_model(tiny.spec("gpt2")).save_pretrained(folder)
    return folder


def searched(data: Path, *dimensions: str, **more: Any) -> Search:
    study = StudySpec(**({"data": str(data), "tasks": (TASK,), "settings": SMALL} | more))
    return make_search(study, Wish(dimensions or ("lr=1e-3,1e-2",)), lambda text: None)


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
    jobs = plan.expand(study, preflight.check(study, lambda line: None))
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


def test_what_the_fold_holds_out_is_never_opened(tune, tiny_msd, tmp_path, cache):
    """The same search where the held-out files are no images at all: the same Dice, to the last bit."""
    results = []
    for name in ("clean", "poisoned"):
        root = tmp_path / name
        shutil.copytree(tiny_msd, root)
        if name == "poisoned":
            for case in make_split(open_task(root, TASK).cases, 1).held_out:
                for part in ("imagesTr", "labelsTr"):
                    (root / TASK / part / f"{case}.nii.gz").write_bytes(b"no image")
        code, out, err = tune(
            "--data", root, "--folds", 1, "--search", "lr=1e-3,1e-2", "--method", "random", "--out", f"of-{name}"
        )
        assert code == 0, out + err
        results.append([(sample.values, sample.rungs) for sample in read(tmp_path / f"of-{name}")])
        held = json.loads((tmp_path / f"of-{name}" / "tuning.json").read_text())["inner"]
        assert not {*held["train"], *held["held_out"]} & set(make_split(open_task(root, TASK).cases, 1).held_out)
    assert results[0] == results[1] and len(results[0]) == 2
    assert results[0][0][1] != results[0][1][1]  # the two rates are told apart, so equality says something


def test_a_sample_is_a_trial_on_the_training_cases_alone(make_task, tmp_path):
    """Its last Dice is that of a trial in a folder that holds nothing but the fold's training cases."""
    make_task(tmp_path / "all", cases=6)
    outer = make_split(open_task(tmp_path / "all", TASK).cases, 0)
    shutil.copytree(tmp_path / "all", tmp_path / "part")
    folder = tmp_path / "part" / TASK
    body = json.loads((folder / "dataset.json").read_text())
    body["training"] = [entry for entry in body["training"] if Path(entry["image"]).name[:-7] in outer.train]
    (folder / "dataset.json").write_text(json.dumps(body))
    for case in outer.held_out:
        for part in ("imagesTr", "labelsTr"):
            (folder / part / f"{case}.nii.gz").unlink()

    settings = {**SMALL, "train": {**SMALL["train"], "steps": 30, "lr": 3e-3}}
    study = StudySpec(data=str(tmp_path / "part"), settings=settings, out=str(tmp_path / "run"))
    (job,) = plan.expand(study, preflight.check(study, lambda text: None))
    record = attempt_trial(job, lambda entry, share: None)
    scores = {}
    for case in record.cases:
        scores.setdefault(case.label, []).append(float(metrics.dice(case.tp, case.fp, case.fn, case.tn)))
    expected = float(np.mean([np.mean(values) for values in scores.values()]))

    search = searched(tmp_path / "all", settings=settings)
    heard: list[dict[str, Any]] = []
    attempt(search, {"lr": 3e-3}, heard.append)
    assert heard[-1]["rung"]["dice"] == pytest.approx(expected, abs=1e-12) and expected > 0.05
    assert set(search.split.held_out) == {case.case for case in record.cases}


def test_scoring_at_rungs_changes_nothing_of_the_training(tiny_msd):
    """With dropout: a network left in the mode of scoring would train without it."""
    settings = {"train": {"steps": 18, "epochs": 18, "lr": 3e-3}, "model": {**SMALL["model"], "dropout": 0.4}}
    study = StudySpec(data=str(tiny_msd), tasks=(TASK,), settings=settings)
    told: list[list[dict[str, Any]]] = []
    for rungs in (1, 3):
        search = make_search(study, Wish(("lr=3e-3",), method="random", rungs=rungs), lambda text: None)
        heard: list[dict[str, Any]] = []
        attempt(search, {"lr": 3e-3}, heard.append)
        told.append([entry["rung"] for entry in heard if "rung" in entry])
    assert [rung["step"] for rung in told[1]] == [2, 6, 18] and told[0] == told[1][-1:]


def test_the_inner_split_parts_no_patient(make_task, tmp_path):
    patients = {f"tiny_{n}": f"p{n // 2}" for n in range(8)}
    make_task(tmp_path / "data", cases=8, patients=patients)
    search = searched(tmp_path / "data")
    sides = [{patients[case] for case in side} for side in (search.split.train, search.split.held_out)]
    assert not sides[0] & sides[1] and len(sides[0]) + len(sides[1]) == 3
    assert {case.id for side in search.sides() for case in side} == {*search.split.train, *search.split.held_out}


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


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tune, tiny_msd, tmp_path, monkeypatch):
    def interrupted(search, wish, todo, before, on_sample):
        one_by_one(search, wish, todo[:1], before, on_sample)
        on_sample(todo[1], 0.0)
        raise KeyboardInterrupt

    arguments = ["--data", tiny_msd, "--search", "lr=1e-4..1e-2", "--samples", "3", "--out", "search"]
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_on_ray", lambda *_: interrupted)
        code, out, _ = tune(*arguments)
    assert code == 130 and "stopped; what was searched is kept" in out and "1 complete, 1 running" in out
    assert not (tmp_path / "search" / "tuned.toml").exists()
    (first, _) = read(tmp_path / "search")
    code, out, _ = tune(*arguments)
    assert code == 0 and "3 samples by asha, 2 to run" in out and (tmp_path / "search" / "tuned.toml").exists()
    assert read(tmp_path / "search")[0] == first
    code, _, err = tune(*arguments, "--method", "random")
    assert code == 2 and "was begun with method = 'asha', the command has 'random'" in err and "--out" in err


def test_a_sample_that_diverges_does_not_end_the_search_and_is_not_tried_again(tune, tiny_msd, tmp_path):
    wild = ["--set", "train.clip=1e30", "--set", "train.warmup=0"]
    arguments = ["--data", tiny_msd, "--search", "lr=1e-3,1e30", "--method", "random", "--out", "search", *wild]
    code, out, _ = tune(*arguments)
    assert code == 0 and "1 complete" in out and "1 diverged" in out and ", lr 1e+30: " in out
    assert tomllib.loads((tmp_path / "search" / "tuned.toml").read_text())["train"]["lr"] == 1e-3
    assert "2 samples by random, 0 to run" in tune(*arguments)[1]


def test_a_sample_that_fails_is_tried_again_and_without_a_winner_nothing_is_written(
    tune, tiny_msd, tmp_path, monkeypatch
):
    arguments = ["--data", tiny_msd, "--search", "lr=1e-3", "--method", "random", "--out", "search"]
    with monkeypatch.context() as patch:
        patch.setattr("bench.trial.assemble", lambda *_: (_ for _ in ()).throw(MemoryError("out of memory")))
        code, out, _ = tune(*arguments)
    assert code == 1 and "failed: sample 1, lr 0.001: MemoryError: out of memory" in out
    assert not (tmp_path / "search" / "tuned.toml").exists()
    code, out, _ = tune(*arguments)
    assert code == 0 and "1 samples by random, 1 to run" in out


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


def test_asha_goes_on_from_the_samples_of_an_earlier_run():
    """Without a start of Ray: the scheduler itself, told of three good samples, stops a weak one at its first rung."""
    from types import SimpleNamespace

    from bench.launch.search import _asha
    from bench.tuning.samples import Rung

    shares = Wish().shares
    assert [round(share, 3) for share in shares] == [0.111, 0.333, 1]
    known = [Sample(n, {}, State.STOPPED, (Rung(0.15, 3, 0.5 + n / 100),)) for n in range(3)]
    for before, dice, decision in ((known, 0.1, "STOP"), (known, 0.9, "CONTINUE"), ([], 0.1, "CONTINUE")):
        asha, trial = _asha(shares, before), SimpleNamespace(trial_id="new")
        asha.on_trial_add(None, trial)
        assert asha.on_trial_result(None, trial, {"resource": 1, "dice": dice}) == decision
