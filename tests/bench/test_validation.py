"""Validation Dice of running trials: of held-out crops, only shown, and the same whatever happens to the trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from bench import engine, randomness, validation
from bench.course import Stopwatch
from bench.data.crops import CropSampler
from bench.settings import TrainSettings
from bench.study import StudySpec, load
from bench.trained import find_trial, load_model
from bench.trial import TrialJob, attempt, prepare
from bench.validation import Validation
from mvl.loss import batch_dice
from results.record import Status, TrialResult
from tests.bench.fault_room import kill_at, lasting, models, quiet
from tests.bench.test_engine import Crops, free_port
from tests.bench.trial_room import held_out, jobs_of

SIZES = {"image": (16, 16, 16), "width": 16, "depth": 1, "heads": 2, "dropout": 0.2}
TRAIN = {"steps": 6, "epochs": 3, "warmup": 0.0}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch is validated, however short."""
    monkeypatch.setattr(validation, "_TRAINED_FOR_ONE", 0)


def job_of(data: Path, out: Path, crops: int, arm: str = "none", **train: Any) -> TrialJob:
    study = StudySpec(
        backbones=("none",), references=() if arm == "none" else (arm,), data=str(data), out=str(out),
        settings={"train": TRAIN | train, "model": SIZES}, validation_crops=crops, checkpoint_every="1 steps",
    )  # fmt: skip
    return next(job for job in jobs_of(study) if job.spec.backbone == arm)


def ended(job: TrialJob) -> TrialResult:
    record = attempt(job, quiet)
    assert record.status is Status.COMPLETE, record.error
    return record


def shown(record: TrialResult) -> list[float | None]:
    return [entry["validation_dice"] for entry in record.curve]


@pytest.mark.parametrize(
    ("arm", "train"),
    [
        ("none", {"schedule": "plateau", "patience": 0}),
        ("none", {"precision": "bf16", "augment": "full"}),
        ("none", {"precision": "fp16"}),
        pytest.param("dynunet", {}, marks=pytest.mark.slow),
    ],
)
def test_weights_and_scores_are_those_without_it(tiny_msd, tmp_path, often, arm, train):
    with_it, without = (job_of(tiny_msd, tmp_path / str(crops), crops, arm, **train) for crops in (3, 0))
    assert with_it.spec.digest == without.spec.digest
    first, second = ended(with_it), ended(without)
    assert all(0 <= value <= 1 for value in shown(first)) and first.cost["validation_seconds"] > 0
    assert not any("validation_dice" in entry for entry in second.curve) and second.cost["validation_seconds"] == 0
    assert first.cases == second.cases
    assert models(tmp_path / "3") == models(tmp_path / "0") != {}
    assert [entry | {"validation_dice": 0} for entry in first.curve] == [
        entry | {"validation_dice": 0} for entry in second.curve
    ]


def test_it_is_of_crops_of_held_out_cases_alone(tiny_msd, tmp_path, often):
    """The last one, made again from the stored model and the held-out cases."""
    job = job_of(tiny_msd, tmp_path / "run", 5)
    last = shown(ended(job))[-1]
    _, _, unseen = prepare(job)
    assert {case.id for case in unseen} == set(held_out(job))
    sampler = CropSampler(unseen, SIZES["image"], job.spec.seed, job.spec.train["foreground"], augment="none")
    model, sums = load_model(find_trial(tmp_path / "run")).eval(), 0.0
    for index in range(10, 15):
        image, label = map(torch.from_numpy, sampler.sample(index))
        with torch.no_grad():
            sums = sums + torch.stack([part.double() for part in batch_dice(model(image[None]), label[None].long())])
    seen = sums[1] > 0
    assert seen.any() and last == pytest.approx((sums[0] / sums[1])[seen].mean().item(), abs=1e-12)


@pytest.mark.parametrize("kills", [(2,), (3, 5), (6,)])
def test_a_trial_that_was_killed_ends_with_the_same_curve(tiny_msd, tmp_path, often, kills):
    calm, cut = (job_of(tiny_msd, tmp_path / name, 2) for name in ("calm", "cut"))
    expected = ended(calm)
    for step in kills:
        kill_at(cut, step)
    record = ended(cut)
    assert record.provenance["taken_up"] and None not in shown(record)
    assert lasting(record) == lasting(expected) and models(tmp_path / "cut") == models(tmp_path / "calm")


class Truth(nn.Module):
    """Tells the label that its image holds, or the background alone."""

    device = torch.device("cpu")

    def __init__(self, right: bool = True) -> None:
        super().__init__()
        self.right = right

    def forward(self, image_BCXYZ: torch.Tensor) -> torch.Tensor:
        label = image_BCXYZ[:, 0].long() * self.right
        return F.one_hot(label, 4).movedim(-1, 1).float()


class Told:
    """Crops whose image is their label, of classes 1 and 2; the third never comes. highest 0: of nothing at all."""

    def __init__(self, highest: int = 2) -> None:
        self.highest, self.asked = highest, list[int]()

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(index)
        label = np.random.default_rng(index).integers(0, self.highest + 1, (4, 4, 4)).astype(np.uint8)
        return label[None].astype(np.float32), label


def course_of(steps: list[int], spent: float = 1.0) -> Any:
    curve = [{"step": step, "loss": 1.0, "dice": None} for step in steps]
    return SimpleNamespace(curve=curve, step=steps[-1], spent=spent, clock=Stopwatch())


@pytest.mark.parametrize(("highest", "right", "dice"), [(2, True, 1.0), (2, False, 0.0), (0, True, None)])
def test_who_tells_the_truth_has_a_dice_of_one_and_what_is_not_there_has_none(highest, right, dice):
    engine.join()
    sampler, course = Told(highest), course_of([5, 9])
    Validation(sampler, 4, 0, 1, batch=2).epoch_ended(Truth(right), course)
    assert course.curve[-1]["validation_dice"] == dice and "validation_dice" not in course.curve[0]
    assert sampler.asked == [4, 5, 6, 7]  # its own crops in each epoch


def test_running_statistics_mode_and_generators_are_left_alone(tiny_msd):
    engine.join()
    net = nn.Sequential(nn.Conv3d(1, 3, 1), nn.BatchNorm3d(3), nn.Dropout(0.5), nn.InstanceNorm3d(3, affine=True))
    started = engine.start(net, TrainSettings(batch=2), workers=1)
    started.train()
    before, generators = {name: value.clone() for name, value in net.state_dict().items()}, randomness.read()
    course = course_of([5])
    Validation(Crops(), 3, 0, 1, batch=2).epoch_ended(started, course)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    after = randomness.read()
    assert torch.equal(after.pop("torch"), generators.pop("torch")) and after == generators
    assert course.curve[-1]["validation_dice"] is not None


@given(epochs=st.lists(st.integers(1, 60), min_size=1, max_size=12), crops=st.integers(0, 9), batch=st.integers(1, 4))
def test_it_costs_a_crop_for_twenty_at_most_and_the_last_epoch_has_it(epochs, crops, batch):
    engine.join()
    sampler, steps, whole = Told(), np.cumsum(epochs).tolist(), course_of([0])
    whole.curve.clear()
    check = Validation(sampler, crops, 0, 1, batch)
    for step in steps:
        whole.step, whole.spent = step, step / steps[-1]
        whole.curve.append({"step": step})
        check.epoch_ended(Truth(), whole)
    assert len(sampler.asked) <= batch * steps[-1] / 20 + crops
    assert ("validation_dice" in whole.curve[-1]) == (crops > 0)
    if min(epochs) * batch >= 20 * crops > 0:
        assert len(sampler.asked) == crops * len(epochs)


def test_a_budget_of_time_pays_for_none_of_it(monkeypatch):
    engine.join()
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    class Slow(Told):
        def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            now[0] += 100
            return super().sample(index)

    course, check = course_of([5]), Validation(Slow(), 3, 0, 1, batch=2)
    now[0] += 7
    check.epoch_ended(Truth(), course)
    now[0] += 1
    assert course.clock.seconds == 8 and check.seconds == 300


def test_the_door_takes_the_number_and_no_trial_knows_it(bench, tiny_msd, tmp_path):
    code, _, err = bench("plan", "--data", tiny_msd, "--validation-crops", "-1")
    assert code == 2 and "--validation-crops: -1 is below 0; 0 shows no validation Dice" in err
    path = tmp_path / "study.toml"
    path.write_text("validation_crops = 7\n")
    assert StudySpec(**load(path)).validation_crops == 7
    study = StudySpec(data=str(tiny_msd), out=str(tmp_path / "run"))
    default, seven = jobs_of(study), jobs_of(replace(study, validation_crops=7))
    assert [job.spec.digest for job in default] == [job.spec.digest for job in seven]
    assert (default[0].validation_crops, seven[0].validation_crops) == (2, 7)


SETTINGS = TrainSettings(steps=6, batch=4, epochs=3, lr=1e-3, warmup=0.0)


def trained(rank: int, workers: int, port: int, folder: str, stage: int, crops: int, precision: str) -> None:
    torch.set_num_threads(1)
    validation._TRAINED_FOR_ONE = 0
    if workers > 1:
        address = f"tcp://127.0.0.1:{port}"
        torch.distributed.init_process_group("gloo", address, rank=rank, world_size=workers)
    from bench.train import train
    from mvl.config import SegmenterConfig
    from mvl.model import Segmenter

    def build() -> Segmenter:
        return Segmenter(SegmenterConfig(1, 2, (8, 8, 8), (4, 4, 4), width=16, depth=1, heads=2))

    engine.join()
    torch.manual_seed(0)
    settings = replace(SETTINGS, precision=precision)
    started = engine.start(build(), settings, workers, stage)
    check = Validation(Crops(), crops, rank, workers, settings.batch)
    course = train(started, Crops(), settings, rank, workers, lambda entry, share: None, validation=check)
    state = engine.by_itself(started, build).state_dict()
    torch.save({"curve": course.curve, "state": state}, f"{folder}/{workers}-{stage}-{crops}-{rank}.pt")
    torch.distributed.destroy_process_group()


def ends(folder: Path, workers: int, stage: int, crops: int, precision: str = "fp32") -> list[dict[str, Any]]:
    arguments = (workers, free_port(), str(folder), stage, crops, precision)
    torch.multiprocessing.spawn(trained, arguments, nprocs=workers)
    paths = [folder / f"{workers}-{stage}-{crops}-{rank}.pt" for rank in range(workers)]
    return [torch.load(path, weights_only=True) for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize("crops", [1, 3, 4])
def test_the_number_of_workers_changes_nothing(tmp_path, stage, crops):
    """Also where there are fewer crops than workers, or one more than can be shared; and no rank's weights change."""
    (one,), two = ends(tmp_path, 1, 0, crops), ends(tmp_path, 2, stage, crops)
    shown = [[entry["validation_dice"] for entry in end["curve"]] for end in (one, *two)]
    assert len(shown[0]) == 3 and None not in shown[0] and shown[1] == shown[2]
    assert shown[1] == pytest.approx(shown[0], abs=2e-3)  # weights agree to 2e-6, and a voxel may change sides
    if crops == 3:
        for end, without in zip(two, ends(tmp_path, 2, stage, 0), strict=True):
            assert all(torch.equal(value, without["state"][name]) for name, value in end["state"].items())


@pytest.mark.slow
def test_lower_precision_on_two_workers(tmp_path):
    first, second = ends(tmp_path, 2, 2, 3, "bf16")
    assert first["curve"][-1]["validation_dice"] == second["curve"][-1]["validation_dice"] is not None
