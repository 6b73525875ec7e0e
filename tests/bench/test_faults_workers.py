"""Several workers and every ZeRO stage: each rank keeps its own part, and all go on from it bit for bit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from bench.settings import TrainSettings
from tests.bench.fault_room import Killed
from tests.bench.test_engine import Block, Crops, free_port
from tests.results import fake

SETTINGS = TrainSettings(steps=6, batch=4, epochs=2, lr=1e-3, warmup=0.0)


class Fatal(Crops):
    """Crops that end every rank as those of a step, counted from 1, are asked for."""

    def __init__(self, step: int) -> None:
        self.step = step

    def sample(self, index: int):  # type: ignore[no-untyped-def]
        if index // SETTINGS.batch + 1 == self.step:
            raise Killed
        return super().sample(index)


def trained(rank: int, workers: int, port: int, stage: int, folder: str, name: str, kill: int) -> None:
    torch.set_num_threads(1)
    if workers > 1:
        address = f"tcp://127.0.0.1:{port}"
        torch.distributed.init_process_group("gloo", address, rank=rank, world_size=workers)
    from bench import engine, validation
    from bench.checkpoints import Checkpoints
    from bench.interval import Interval
    from bench.keeper import Keeper
    from bench.train import train
    from bench.validation import Validation
    from mvl.config import SegmenterConfig
    from mvl.model import Segmenter

    def build() -> Segmenter:
        return Segmenter(SegmenterConfig(1, 2, (8, 8, 8), (4, 4, 4), width=16, depth=1, heads=2, dropout=0.3), Block())

    engine.join()
    torch.manual_seed(rank)  # dropout differs between ranks, so each must go on with its own state
    started = engine.start(build(), SETTINGS, workers, stage)
    notices: list[str] = []
    checkpoints = Checkpoints(Path(folder) / name, fake.spec(), {"workers": workers, "zero_stage": stage}, rank)
    keeper = Keeper(checkpoints, Interval(steps=2), lambda: False, notices.append)
    validation._TRAINED_FOR_ONE = 0  # so that the first epoch, too, has a validation Dice
    check = Validation(Crops(), 3, rank, workers, SETTINGS.batch)
    crops = Fatal(kill)
    try:
        course = train(started, crops, SETTINGS, rank, workers, lambda entry, share: None, keeper, validation=check)
    except Killed:
        return
    state = engine.by_itself(started, build).state_dict()
    kept = {"state": state, "curve": course.curve, "steps": [len(course.taken_up), len(notices)]}
    torch.save(kept, f"{folder}/{name}-{rank}.pt")
    torch.distributed.destroy_process_group()


def spawned(workers: int, *arguments: object) -> None:
    torch.multiprocessing.spawn(trained, (workers, free_port(), *arguments), nprocs=workers)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "stage"), [(2, 0), (2, 1), (2, 2), (2, 3), (1, 3)])
def test_ranks_that_were_killed_go_on_as_if_they_had_not_been(tmp_path, workers, stage):
    spawned(workers, stage, str(tmp_path), "calm", 0)
    spawned(workers, stage, str(tmp_path), "cut", 6)
    spawned(workers, stage, str(tmp_path), "cut", 0)
    for rank in range(workers):
        calm, cut = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for name in ("calm", "cut"))
        assert cut["steps"] == [1, 0] and calm["steps"] == [0, 0]
        assert cut["curve"] == calm["curve"] and all("validation_dice" in entry for entry in calm["curve"])
        for key, value in calm["state"].items():
            assert torch.equal(cut["state"][key], value), key


def with_a_full_disk(rank: int, workers: int, port: int, folder: str, what: str, there: int) -> None:
    def write(*arguments: object) -> int:
        if rank == there:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    from bench import checkpoints

    real = getattr(checkpoints, what)
    setattr(checkpoints, what, write)
    trained(rank, workers, port, 0, folder, "full", 0)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "there"), [("_write", 0), ("_write", 1), ("sync_folder", 0)])
def test_where_one_rank_cannot_write_no_rank_keeps_and_both_train_on(tmp_path, what, there):
    torch.multiprocessing.spawn(with_a_full_disk, (2, free_port(), str(tmp_path), what, there), nprocs=2)
    ends = [torch.load(tmp_path / f"full-{rank}.pt", weights_only=True) for rank in range(2)]
    assert ends[0]["steps"] == ends[1]["steps"] and ends[0]["steps"][1] >= 1
    assert not list((tmp_path / "full").rglob("step-*")) + list((tmp_path / "full").rglob("*.draft"))


@pytest.mark.slow
def test_a_part_that_one_rank_cannot_read_is_used_by_none(tmp_path):
    spawned(2, 1, str(tmp_path), "calm", 0)
    spawned(2, 1, str(tmp_path), "cut", 6)
    newest = max((tmp_path / "cut").rglob("step-*"))
    (path,) = newest.glob("rank-1.*")
    path.write_bytes(path.read_bytes()[:-1])
    spawned(2, 1, str(tmp_path), "cut", 0)
    calm, *cut = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("calm-0", "cut-0", "cut-1"))
    assert [one["steps"] for one in cut] == [[1, 0], [1, 1]] and cut[0]["curve"] == calm["curve"]
