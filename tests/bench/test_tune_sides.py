"""What a search trains on and scores on: its fold's training side alone, split by patient, scored as a trial is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.folder import open_task
from bench.data.splits import make_split
from bench.study import StudySpec
from bench.trial import attempt as attempt_trial
from bench.tuning.sample import attempt
from bench.tuning.samples import read
from bench.tuning.search import Wish, make_search
from results import metrics
from tests.bench.trial_room import SMALL, jobs_of
from tests.bench.tune_room import TASK, searched
from tests.conftest import edit_task


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
    listed = json.loads((folder / "dataset.json").read_text())["training"]
    edit_task(folder, training=[entry for entry in listed if Path(entry["image"]).name[:-7] in outer.train])
    for case in outer.held_out:
        for part in ("imagesTr", "labelsTr"):
            (folder / part / f"{case}.nii.gz").unlink()

    settings = {**SMALL, "train": {**SMALL["train"], "steps": 30, "lr": 3e-3}}
    study = StudySpec(data=str(tmp_path / "part"), settings=settings, out=str(tmp_path / "run"))
    (job,) = jobs_of(study)
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
