"""Budgets: what is read, that one is in force, that training ends with it, and that the rate follows it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.budget import Budget, parse, words
from bench.presets import PRESETS, resolve
from bench.schedule import Schedule
from bench.settings import TrainSettings
from bench.study import PHANTOM_STEPS, StudyError, StudySpec, bind, check_bound, load
from bench.trial import attempt
from results import store
from results.record import Status
from tests.bench.test_engine import Crops, free_port
from tests.bench.trial_room import SMALL, jobs_of


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        *(("90s", 90, "s"), ("10m", 600, "s"), ("2h", 7200, "s"), ("1.5 hours", 5400, "s"), ("0.5s", 0.5, "s")),
        *(("500 steps", 500, "steps"), ("1 step", 1, "steps"), ("20 Epochs", 20, "epochs"), (" 3epochs ", 3, "epochs")),
    ],
)
def test_budgets_are_read_as_people_write_them(text, amount, unit):
    assert parse(text) == Budget(amount, unit)


@given(st.integers(1, 10**9) | st.decimals(1, 10**6, places=3), st.sampled_from(["steps", "epochs", "s", "m", "h"]))
def test_the_form_of_records_is_read_as_the_same_budget(amount, unit):
    if unit in ("steps", "epochs"):
        amount = int(amount)
    budget = parse(f"{amount} {unit}")
    assert parse(budget.text) == budget


@pytest.mark.parametrize(
    "text", ["", "10", "ten minutes", "10 parsecs", "-5m", "0 s", "1.5 steps", "0 epochs", "1h30m"]
)
def test_what_is_no_budget_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"train.budget: ") as raised:
        parse(text)
    assert repr(text) in str(raised.value) and "\n" not in str(raised.value)


@given(st.integers(1, 50), st.integers(1, 40), st.integers(1, 8))
def test_an_epoch_is_one_pass_over_the_training_cases(epochs, cases, batch):
    """Each case gives a crop an epoch, and no step is made that is not needed for that."""
    steps = TrainSettings(steps=0, budget=f"{epochs} epochs", batch=batch).for_cases(cases).steps
    assert steps * batch >= epochs * cases > (steps - 1) * batch


def test_one_budget_is_in_force_the_one_that_was_asked_for():
    def train(preset: str = "cpu", **given: object) -> tuple[int, str]:
        found = resolve(preset, {"train": given})["train"]
        return found["steps"], found["budget"]

    assert train() == (PRESETS["cpu"]["train"]["steps"], "")
    assert train(budget="10m") == train(budget="600s", steps=0) == (0, "600 s")
    assert train(budget="20 epochs") == (0, "20 epochs") and train(budget="70 steps") == train(steps=70) == (70, "")
    assert resolve("cpu", {"train": {"budget": "70 steps"}}) == resolve("cpu", {"train": {"steps": 70}})
    with pytest.raises(ValueError, match=r"--steps 70 and --budget 10m: a trial has one budget; leave one out"):
        train(steps=70, budget="10m")
    with pytest.raises(ValueError, match="only one may be in force"):
        TrainSettings(steps=5, budget="10m")


def test_steps_displace_a_preset_of_epochs(monkeypatch):
    paper = {**PRESETS["cpu"], "train": PRESETS["cpu"]["train"] | {"steps": 0, "budget": "100 epochs"}}
    monkeypatch.setitem(PRESETS, "paper", paper)
    assert resolve("paper", {})["train"]["budget"] == words(resolve("paper", {})["train"]) == "100 epochs"
    found = resolve("paper", {"train": {"steps": 9}})["train"]
    assert (found["steps"], found["budget"], words(found)) == (9, "", "9 steps")
    assert StudySpec(preset="paper").resolved()["train"]["steps"] == PHANTOM_STEPS


def test_a_study_keeps_its_budget_in_its_file(tmp_path):
    study = StudySpec(settings={"train": {"budget": "2m"}}, references=("unetr",))
    bind(study, tmp_path)
    again = StudySpec(**load(tmp_path / "study.toml"))
    assert again.resolved() == study.resolved() and again.references == ("unetr",)
    assert again.resolved()["train"]["budget"] == "120 s"
    with pytest.raises(StudyError, match=r"made with train.budget = '120 s', the command asks for '60 s'"):
        check_bound(replace(study, settings={"train": {"budget": "1m"}}), tmp_path)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_rate_rises_through_the_warm_up_and_falls_from_its_end(progress, warmup):
    settings = TrainSettings(warmup=warmup)
    found = Schedule(settings).rate(progress)
    assert 0 <= found <= 1
    later = Schedule(settings).rate(min(1.0, progress + 0.01))
    if progress >= warmup:
        assert later <= found + 1e-9
    elif progress + 0.01 < warmup:
        assert later > found


class Plain:
    """What `train` asks of an engine, with plain SGD on one number a voxel; each step takes `pause` seconds."""

    device = torch.device("cpu")

    def __init__(self, pause: float = 0.0) -> None:
        self.weight = torch.zeros(2, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.weight], lr=1.0)
        self.pause, self.rates = pause, list[float]()

    def train(self) -> None:
        self.rates.clear()

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        time.sleep(self.pause)
        return torch.cat([image * weight for weight in self.weight], dim=1)

    def backward(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()

    def step(self) -> None:
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()


@pytest.fixture(scope="module", autouse=True)
def joined():
    from bench import engine

    engine.join()  # for the whole process, as a trial does: DeepSpeed keeps the group and cannot take another


def test_training_by_steps_has_the_rate_of_the_middle_of_each_step():
    from bench.train import train

    settings, engine, shares = TrainSettings(steps=10, warmup=0.2, lr=0.5, epochs=4), Plain(), list[float]()
    curve = train(engine, Crops(), settings, 0, 1, lambda entry, share: shares.append(share)).curve
    assert engine.rates == [0.5 * Schedule(settings).rate((step + 0.5) / 10) for step in range(10)]
    assert [entry["step"] for entry in curve] == [3, 5, 8, 10] and shares == [0.3, 0.5, 0.8, 1.0]


def test_training_by_time_ends_with_the_step_in_which_it_is_up_and_the_rate_has_run_its_course():
    from bench.train import train

    settings = TrainSettings(steps=0, budget="0.8 s", warmup=0.25, lr=1.0, epochs=4)
    engine, shares = Plain(pause=0.02), list[float]()
    started = time.monotonic()
    curve = train(engine, Crops(), settings, 0, 1, lambda entry, share: shares.append(share)).curve
    took = time.monotonic() - started
    assert took >= 0.8 and curve[-1]["step"] == len(engine.rates)
    assert 1 <= len(curve) <= 4 and shares == sorted(shares) and shares[-1] == 1.0
    if len(engine.rates) >= 12:  # fewer only on a machine that was stopped meanwhile
        peak = engine.rates.index(max(engine.rates))
        assert engine.rates[0] < engine.rates[peak] > engine.rates[-1] and 0 < peak < len(engine.rates) - 1
        assert engine.rates[peak:] == sorted(engine.rates[peak:], reverse=True)


def by_time(rank: int, workers: int, port: int, path: str) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, rank=rank, world_size=workers)
    from bench import engine
    from bench.train import train
    from mvl.config import SegmenterConfig
    from mvl.model import Segmenter

    engine.join()
    time.sleep(0.3 * rank)  # its clock starts later; rank 0's decides
    torch.manual_seed(0)
    settings = TrainSettings(steps=0, budget="1.5 s", batch=2, epochs=2, lr=1e-3)
    model = Segmenter(SegmenterConfig(1, 2, (8, 8, 8), (4, 4, 4), width=16, depth=1, heads=2))
    started = engine.start(model, settings, workers)
    curve = train(started, Crops(), settings, rank, workers, lambda entry, share: None).curve
    torch.save({"steps": curve[-1]["step"], "state": started.module.state_dict()}, f"{path}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_workers_stop_together_when_the_time_of_the_first_is_up(tmp_path):
    torch.multiprocessing.spawn(by_time, (2, free_port(), str(tmp_path / "rank")), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["steps"] == second["steps"] >= 1
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name


@pytest.mark.parametrize("budget", ["3 epochs", "1 s"])
def test_a_record_says_how_many_steps_were_made_and_if_it_repeats(tiny_msd, tmp_path, budget):
    small = SMALL | {"train": {"budget": budget, "epochs": 2}}
    study = StudySpec(backbones=("none",), data=str(tiny_msd), settings=small, out=str(tmp_path / "run"))
    (job,) = jobs_of(study)
    record = attempt(job, lambda entry, share: None)
    assert record.status is Status.COMPLETE, record.error
    assert record.cost["steps"] == record.curve[-1]["step"] >= 1
    assert record.provenance["repeatable"] is (budget == "3 epochs")
    assert record.provenance["repeatable"] or record.cost["train_seconds"] >= 1
    if budget == "3 epochs":
        assert record.cost["steps"] == -(-3 * record.task.training_cases // 2)  # in batches of two
    assert (record.spec.train["budget"], record.spec.train["steps"]) == (budget, 0)
    assert store.completed(study.run) == {job.spec.digest}
