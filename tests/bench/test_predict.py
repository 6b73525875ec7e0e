"""`bench predict` at the door: a trial is trained, its model stored, and images are predicted with it."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import backbones
from bench import model_file, plan, preflight
from bench.data.folder import open_task, read_label
from bench.data.splits import make_split
from bench.errors import PredictionError
from bench.study import StudySpec, bind, load
from bench.trained import find_trial, load_model
from bench.trial import TrialJob, attempt
from mvl.config import SegmenterConfig
from results import store
from results.record import Status, TrialResult
from tests.backbones import tiny
from tests.bench.test_cli import bench
from tests.conftest import write_task

SMALL = {
    "train": {"steps": 6, "epochs": 2},
    "model": {"image": (16, 16, 16), "width": 16, "depth": 2, "heads": 2},
}


def trained(study: StudySpec, *controls: str) -> list[tuple[TrialJob, TrialResult]]:
    """The study's trials and their records, or those of some controls alone."""
    jobs = plan.expand(study, preflight.check(study, lambda text: None))
    jobs = [job for job in jobs if not controls or job.spec.control in controls]
    study.run.mkdir(parents=True, exist_ok=True)
    plan.remember(study.run, [job.spec for job in jobs])
    bind(study, study.run)
    done = [(job, attempt(job, lambda entry, share: None)) for job in jobs]
    assert [record.status for _, record in done] == [Status.COMPLETE] * len(done), [record.error for _, record in done]
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, TrialJob, TrialResult]:
    """A run with one trial over two channels and two labels, mirrored along x, several windows at a time."""
    root = tmp_path_factory.mktemp("predict")
    write_task(root / "data", channels=("T1", "T2"), size=22, spacing=(1.0, 2.0, 1.5))
    settings = SMALL | {"data": {"max_voxels": 14**3, "overlap": 0.4, "mirror": "x", "windows": 3}}
    study = StudySpec(data=str(root / "data"), settings=settings, out=str(root / "run"))
    ((job, record),) = trained(study)
    return study.run, job, record


def cases_of(job: TrialJob):
    return {case.id: case for case in open_task(Path(job.data), job.spec.task).cases}


def written(done) -> list[Path]:
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr + done.stdout
    return [Path(line) for line in done.stdout.splitlines()]


def counts(prediction: np.ndarray, reference: np.ndarray, value: int) -> tuple[int, int, int]:
    p, r = prediction == value, reference == value
    return int((p & r).sum()), int((p & ~r).sum()), int((~p & r).sum())


def image_of(case) -> Path:
    return getattr(case, "images", None)[0] if hasattr(case, "images") else case.image


def test_held_out_cases_get_exactly_the_counts_of_the_record(run, tmp_path):
    folder, job, record = run
    cases = cases_of(job)
    names = make_split(tuple(cases.values()), job.spec.fold).held_out
    done = bench("predict", str(folder), *(str(image_of(cases[name])) for name in names), "--to", str(tmp_path))
    files = written(done)
    assert [file.name for file in files] == [f"{name}.nii.gz" for name in names]
    scores = {(score.case, score.label): score for score in record.cases}
    foreground = 0
    for name, file in zip(names, files, strict=True):
        prediction, reference = np.asanyarray(nib.load(file).dataobj), read_label(cases[name])
        for value, label in enumerate(record.task.labels, 1):
            score = scores[name, label]
            assert (score.tp, score.fp, score.fn) == counts(prediction, reference, value)
        foreground += int((prediction > 0).sum())
    assert foreground > 0, "a trial that finds nothing would show nothing"


def test_what_is_stored_is_what_was_trained_and_the_record_has_its_hash(run):
    folder, job, record = run
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


def test_no_models_leaves_none_and_changes_no_number(run, tmp_path):
    folder, job, kept = run
    study = StudySpec(**load(folder / "study.toml"), out=str(tmp_path / "without"), keep_models=False)
    ((other, bare),) = trained(study)
    assert job.spec.digest == other.spec.digest and kept.cases == bare.cases and kept.curve == bare.curve
    assert bare.provenance["model"] is None and not (tmp_path / "without" / "models").exists()
    done = bench("predict", str(tmp_path / "without"), str(image_of(cases_of(job)["tiny_0"])), "--to", str(tmp_path))
    assert done.returncode == 2 and "--no-models" in done.stderr and "train it again" in done.stderr


def turned(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels as another scanner would store them, and where they lie."""
    base = np.diag([1.0, 2.0, 1.5, 1.0])
    if name == "flipped":
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        flip[0, 3] = image.shape[0] - 1
        return image[::-1], base @ flip
    if name == "swapped":
        swap = np.eye(4)[[2, 1, 0, 3]]
        return np.swapaxes(image, 0, 2), base @ swap
    angle = np.deg2rad(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = 31, -7, 12
    if name == "sheared":
        turn[0, 2] = 0.2
    return image, turn @ base


def back(label: np.ndarray, name: str) -> np.ndarray:
    return {"flipped": lambda a: a[::-1], "swapped": lambda a: np.swapaxes(a, 0, 2)}.get(name, lambda a: a)(label)


@pytest.mark.parametrize("name", ["flipped", "swapped", "oblique", "sheared"])
def test_labels_lie_where_their_image_lies(run, tmp_path, name):
    """Turned voxels get turned labels; affine, shape and codes are the image's own."""
    folder, job, _ = run
    source = nib.load(image_of(cases_of(job)["tiny_1"]))
    array, affine = turned(np.asanyarray(source.dataobj), name)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1)
    image.header["db_name"] = b"somebody"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a name"))
    nib.save(image, tmp_path / "turned.nii")
    (file,) = written(bench("predict", str(folder), str(tmp_path / "turned.nii"), "--to", str(tmp_path / "out")))
    assert file.name == "turned.nii"
    found, given = nib.load(file), nib.load(tmp_path / "turned.nii")
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-5)
    for form in ("get_sform", "get_qform"):
        (a, code), (b, other) = getattr(found, form)(coded=True), getattr(given, form)(coded=True)
        assert code == other
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert found.shape == array.shape[:3] and found.get_data_dtype() == np.uint8
    assert found.header["db_name"].item() == b"" and not found.header.extensions
    label = np.asanyarray(found.dataobj)
    assert label.any()
    if name in ("flipped", "swapped"):
        (plain,) = written(bench("predict", str(folder), str(image_of(cases_of(job)["tiny_1"])), "--to", str(tmp_path)))
        assert np.array_equal(back(label, name), np.asanyarray(nib.load(plain).dataobj))


def channel_files(job: TrialJob, folder: Path) -> list[Path]:
    """The two channels of a case as nnU-Net has them."""
    image = nib.load(image_of(cases_of(job)["tiny_2"]))
    folder.mkdir()
    for channel in range(2):
        part = nib.Nifti1Image(np.asanyarray(image.dataobj)[..., channel], image.affine)
        nib.save(part, folder / f"tiny_2_{channel:04}.nii.gz")
    return sorted(folder.iterdir())


def test_a_file_a_channel_a_folder_of_them_and_one_4d_file_give_the_same(run, tmp_path):
    folder, job, _ = run
    files = channel_files(job, tmp_path / "images")
    expected = None
    given = [[files[0]], files, [tmp_path / "images"], [image_of(cases_of(job)["tiny_2"])]]
    for number, paths in enumerate(given):
        done = bench("predict", str(folder), *map(str, paths), "--to", str(tmp_path / str(number)))
        (file,) = written(done)
        assert file.name == "tiny_2.nii.gz"
        array = np.asanyarray(nib.load(file).dataobj)
        assert expected is None or np.array_equal(array, expected)
        expected = array


def test_probabilities_are_4d_and_the_labels_are_their_largest(run, tmp_path):
    folder, job, record = run
    image = image_of(cases_of(job)["tiny_0"])
    (file,) = written(bench("predict", str(folder), str(image), "--to", str(tmp_path), "--probabilities"))
    stored = nib.load(tmp_path / "probabilities" / file.name)
    values = np.asanyarray(stored.dataobj)
    assert values.dtype == np.float32 and values.shape == (22, 22, 22, len(record.task.labels) + 1)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(stored.affine, nib.load(image).affine, atol=1e-5)
    assert (values.argmax(-1) == np.asanyarray(nib.load(file).dataobj)).mean() > 0.999
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probabilities", file.name]  # no draft stays


def test_a_trial_is_found_by_any_of_its_names(run):
    folder, job, _ = run
    spec = job.spec
    names = [
        "",
        spec.digest,
        spec.digest[:5],
        spec.key,
        f"{spec.task}/{spec.arm}",
        spec.task,
        f"trials/{spec.key}.json",
    ]
    assert [find_trial(folder / name).record.spec for name in names] == [spec] * len(names)


def unchanged(image: Path, tmp: Path) -> Path:
    return image


def no_file(image: Path, tmp: Path) -> Path:
    return tmp / "x.nii.gz"


def empty_folder(image: Path, tmp: Path) -> Path:
    (tmp / "empty").mkdir()
    return tmp / "empty"


def no_nifti(image: Path, tmp: Path) -> Path:
    (tmp / "x.nii").write_bytes(b"nothing")
    return tmp / "x.nii"


def truncated(image: Path, tmp: Path) -> Path:
    (tmp / "x.nii").write_bytes(gzip.decompress(image.read_bytes())[:-100])
    return tmp / "x.nii"


def one_channel(image: Path, tmp: Path) -> Path:
    source = nib.load(image)
    nib.save(nib.Nifti1Image(np.asanyarray(source.dataobj)[..., 0], source.affine), tmp / "x.nii.gz")
    return tmp / "x.nii.gz"


def exists(image: Path, tmp: Path) -> Path:
    (tmp / "out").mkdir()
    (tmp / "out" / image.name).write_bytes(b"precious")
    return image


def own_image(image: Path, tmp: Path) -> Path:
    (tmp / "out").mkdir()
    shutil.copy(image, tmp / "out")
    return tmp / "out"


def out_is_a_file(image: Path, tmp: Path) -> Path:
    (tmp / "out").write_text("")
    return image


def twice(image: Path, tmp: Path) -> Path:
    """A folder with the same name as an image of another one."""
    (tmp / "in").mkdir()
    for name in ("x.nii.gz", "x_0000.nii.gz"):
        shutil.copy(image, tmp / "in" / name)
    return tmp / "in"


WRONG = [
    (unchanged, "Task01/none", ["no such complete trial", "Task99_Tiny/none/0-0-"]),
    (unchanged, "../..", ["neither a run folder nor a trial"]),
    (no_file, "", ["x.nii.gz: no such file"]),
    (empty_folder, "", ["empty: no .nii or .nii.gz file"]),
    (no_nifti, "", ["x.nii: not a readable NIfTI file"]),
    (truncated, "", ["x.nii", "truncated"]),
    (one_channel, "", ["x.nii.gz: 1 channels", "takes 2: T1, T2"]),
    (exists, "", ["tiny_0.nii.gz", "--force"]),
    (own_image, "", ["over its own image"]),
    (out_is_a_file, "", ["--to", "is a file"]),
    (twice, "", ["would both be written as x.nii.gz"]),
]


@pytest.mark.parametrize(("make", "trial", "words"), WRONG, ids=[make.__name__ for make, *_ in WRONG])
def test_wrong_turns_are_told_in_a_line_and_nothing_is_written(run, tmp_path, make, trial, words):
    folder, job, _ = run
    image = make(image_of(cases_of(job)["tiny_0"]), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    where = folder.parents[1] if trial == "../.." else folder / trial
    done = bench("predict", str(where), str(image), "--to", str(tmp_path / "out"))
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == "", done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_force_writes_over_what_is_there(run, tmp_path):
    folder, job, _ = run
    image = image_of(cases_of(job)["tiny_0"])
    (tmp_path / image.name).write_bytes(b"old")
    (file,) = written(bench("predict", str(folder), str(image), "--to", str(tmp_path), "--force"))
    assert nib.load(file).shape == (22, 22, 22)


def copied(run, tmp_path: Path) -> Path:
    shutil.copytree(run[0], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("damage", ["gone", "changed", "exchanged"])
def test_a_model_that_is_not_the_stored_one_is_refused(run, tmp_path, damage):
    folder = copied(run, tmp_path)
    path = model_file.model_path(folder, run[1].spec)
    if damage == "gone":
        path.unlink()
    elif damage == "changed":
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    else:
        model = load_model(find_trial(run[0]))
        other = replace(run[1].spec, seed=7)
        stored = model_file.save(tmp_path, other, model)
        shutil.copy(tmp_path / stored.file, path)
        (record,) = store.read(folder)
        text = record.to_json().replace(record.provenance["model"]["sha256"], stored.sha256)
        (folder / "trials" / f"{record.spec.key}.json").write_text(text)
    words = {"gone": "is gone", "changed": "not the model that was scored", "exchanged": "is of trial"}[damage]
    done = bench("predict", str(folder), str(image_of(cases_of(run[1])["tiny_0"])), "--to", str(tmp_path / "out"))
    assert done.returncode == 2 and words in done.stderr, done.stderr


class Twice(nn.Module):
    """One block at two places, frozen but for a part of it, between parts that are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SegmenterConfig(1, 2)
        self.head = nn.Linear(3, 3)
        self.register_buffer("empty", torch.zeros(0))
        block = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3))
        self.adapters = nn.ModuleDict({place: nn.ModuleDict({"block": block}) for place in ("before", "after")})


def test_a_block_at_two_places_is_stored_once_and_its_frozen_part_not_at_all(run, tmp_path):
    spec = run[1].spec
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


def test_a_trial_whose_weights_are_not_numbers_names_the_image(run, tmp_path):
    folder = copied(run, tmp_path)
    model = load_model(find_trial(folder))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    stored = model_file.save(folder, run[1].spec, model)
    (record,) = store.read(folder)
    text = record.to_json().replace(record.provenance["model"]["sha256"], stored.sha256)
    (folder / "trials" / f"{record.spec.key}.json").write_text(text)
    done = bench("predict", str(folder), str(image_of(cases_of(run[1])["tiny_3"])), "--to", str(tmp_path / "out"))
    assert done.returncode == 2 and "tiny_3: the network's output is not a number" in done.stderr
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


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
