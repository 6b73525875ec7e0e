"""The stored model of a trial: what is in its file, what is left out, and that every kind of arm is built again."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import backbones
from bench import model_file
from bench.data.folder import read_label
from bench.errors import PredictionError
from bench.study import StudySpec, load
from bench.trained import find_trial, load_model
from mvl.config import SegmenterConfig
from tests.backbones import tiny
from tests.bench.door import bench
from tests.bench.predict_room import SMALL, cases_of, counts, image_of, trained, written


def test_what_is_stored_is_what_was_trained_and_the_record_has_its_hash(trained_run):
    folder, job, record = trained_run
    stored = record.provenance["model"]
    path = folder / stored["file"]
    assert path == model_file.model_path(folder, job.spec) and path.stat().st_size == stored["bytes"]
    assert not [file for file in path.parent.iterdir() if file != path]
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["digest"] == job.spec.digest and metadata["left_out"] == ""
    assert json.loads(metadata["config"])["image"] == record.provenance["crop"]
    model = load_model(find_trial(folder))
    assert not model.training
    count = record.cost["trainable_parameters"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
    assert path.stat().st_size > 4 * count


def test_no_models_leaves_none_and_changes_no_number(trained_run, tmp_path):
    folder, job, kept = trained_run
    study = StudySpec(**load(folder / "study.toml"), out=str(tmp_path / "without"), keep_models=False)
    ((other, bare),) = trained(study)
    assert job.spec.digest == other.spec.digest and kept.cases == bare.cases and kept.curve == bare.curve
    assert bare.provenance["model"] is None and not (tmp_path / "without" / "models").exists()
    done = bench("predict", str(tmp_path / "without"), str(image_of(cases_of(job)["tiny_0"])), "--to", str(tmp_path))
    assert done.returncode == 2 and "--no-models" in done.stderr and "train it again" in done.stderr


class Twice(nn.Module):
    """One block at two places, frozen but for a part of it, between parts that are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SegmenterConfig(1, 2)
        self.head = nn.Linear(3, 3)
        self.register_buffer("empty", torch.zeros(0))
        block = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3))
        self.adapters = nn.ModuleDict({place: nn.ModuleDict({"block": block}) for place in ("before", "after")})


def test_a_block_at_two_places_is_stored_once_and_its_frozen_part_not_at_all(trained_run, tmp_path):
    spec = trained_run[1].spec
    model = Twice()
    stored = model_file.save(tmp_path, spec, model)
    with safe_open(tmp_path / stored.file, "pt") as file:
        assert set(file.keys()) == {
            *("head.weight", "head.bias", "empty"),
            *("adapters.before.block.1.weight", "adapters.before.block.1.bias"),
        }
    metadata = model_file.read_metadata(tmp_path, spec, {"sha256": stored.sha256})
    other = Twice()
    with pytest.raises(PredictionError, match="is not the one it was trained with"):
        model_file.load(tmp_path, spec, other, metadata["left_out"])
    frozen, _ = other.adapters["before"]["block"]
    frozen.load_state_dict(model.adapters["before"]["block"][0].state_dict())
    model_file.load(tmp_path, spec, other, metadata["left_out"])
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_every_kind_of_arm_is_built_again_as_it_was(tiny_msd, tmp_path):
    """What is drawn again, read again or stored whole: one block at two places: memory and disk agree."""
    checkpoint = tiny.write_checkpoint(tmp_path / "little", tiny.spec("gpt2"))
    settings = {
        "train": {"steps": 2, "epochs": 1},
        "model": SMALL["model"] | {"mapper_lora": 2, "width": 64, "placement": "middle+after"},
    }
    study = StudySpec(
        backbones=(str(checkpoint),), controls=("all",), data=str(tiny_msd), out=str(tmp_path / "run"),
        settings=settings,
    )  # fmt: skip
    done = trained(study, "random", "shuffled", "lora", "trainable", "identity")
    assert len(done) == 5
    for job, record in done:
        image = image_of(cases_of(job)[record.cases[0].case])
        where = tmp_path / "out" / job.spec.digest
        (file,) = written(bench("predict", str(study.run / job.spec.digest), str(image), "--to", str(where)))
        prediction, reference = np.asanyarray(nib.load(file).dataobj), read_label(cases_of(job)[record.cases[0].case])
        score = record.cases[0]
        assert (score.tp, score.fp, score.fn) == counts(prediction, reference, 1), job.spec.control
    several = bench("predict", str(study.run), str(image), "--to", str(tmp_path / "several"))
    assert several.returncode == 2 and all(job.spec.key in several.stderr for job, _ in done)


def test_a_frozen_block_is_left_out_and_its_absence_names_the_fix(tiny_msd, tmp_path, monkeypatch):
    row = backbones.get("gpt2")
    checkpoint = tiny.write_checkpoint(tmp_path / "gpt2", row)
    study = StudySpec(
        backbones=("gpt2",), weights={"gpt2": str(checkpoint)}, data=str(tiny_msd), settings=SMALL,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    ((job, record),) = trained(study, "pretrained")
    assert record.cost["frozen_parameters"] == 7087872
    assert record.provenance["model"]["bytes"] < 7087872
    trial, image = str(study.run / job.spec.digest), str(image_of(cases_of(job)["tiny_0"]))
    written(bench("predict", trial, image, "--to", str(tmp_path / "out")))
    empty = {"BENCH_CACHE": str(tmp_path / "empty")}
    done = bench("predict", trial, image, "--to", str(tmp_path / "other"), **empty)
    assert done.returncode == 2 and f"bench weights fetch gpt2 --from {checkpoint}" in done.stderr, done.stderr
    fetched = bench("weights", "fetch", "gpt2", "--from", str(checkpoint), **empty)
    assert fetched.returncode == 0, fetched.stderr
    written(bench("predict", trial, image, "--to", str(tmp_path / "other"), **empty))


@pytest.mark.slow  # writes the phantom, and trains two trials of it
def test_a_stand_in_of_the_phantom_is_predicted_with(tmp_path):
    study = StudySpec(
        backbones=("llama3",), controls=("identity",), tasks=("Task04_Hippocampus",), settings=SMALL,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    for job, record in trained(study, "stand-in", "identity"):
        score = record.cases[0]
        case = cases_of(job)[score.case]
        where = tmp_path / job.spec.digest
        done = bench("predict", str(study.run / job.spec.digest), str(image_of(case)), "--to", str(where))
        (file,) = written(done)
        prediction = np.asanyarray(nib.load(file).dataobj)
        assert (score.tp, score.fp, score.fn) == counts(prediction, read_label(case), 1)
        assert "Phantom" in done.stderr  # what these numbers are worth is said here too
