"""DeepSpeed: two workers with half the batch each end with one worker's weights; the frozen block does not move."""

from __future__ import annotations

import socket

import numpy as np
import pytest
import torch
from torch import nn

from bench.settings import TrainSettings

SETTINGS = TrainSettings(steps=6, batch=4, epochs=2, lr=1e-3)


class Crops:
    """Crop i is a function of i alone, as the real sampler's is."""

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = np.random.default_rng(index).standard_normal((1, 8, 8, 8), dtype=np.float32)
        return image, (image[0] > 0.5).astype(np.uint8)


class Block(nn.Module):
    width = 12

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(12, 12).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.map(x)


def trained(rank: int, workers: int, port: int, path: str, zero_stage: int = 0) -> None:
    torch.set_num_threads(1)
    if workers > 1:
        address = f"tcp://127.0.0.1:{port}"
        torch.distributed.init_process_group("gloo", address, rank=rank, world_size=workers)
    from bench import engine
    from bench.train import train
    from mvl.config import SegmenterConfig
    from mvl.model import Segmenter

    assert engine.join() == (rank, workers)
    torch.manual_seed(0)
    model = Segmenter(SegmenterConfig(1, 2, (8, 8, 8), (4, 4, 4), width=16, depth=1, heads=2), Block())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    started = engine.start(model, SETTINGS, workers, zero_stage)
    train(started, Crops(), SETTINGS, rank, workers, lambda entry, share: None)
    if rank == 0:
        torch.save({"before": before, "after": started.module.state_dict()}, path)
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def weights_of(workers: int, path: str, zero_stage: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    torch.multiprocessing.spawn(trained, (workers, free_port(), path, zero_stage), nprocs=workers)
    return torch.load(path, weights_only=True)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=2e-6, msg=name)


def test_two_workers_end_with_the_weights_of_one_and_the_block_does_not_move(tmp_path):
    one, two = weights_of(1, str(tmp_path / "one.pt")), weights_of(2, str(tmp_path / "two.pt"))
    assert_same(two["after"], one["after"])
    for name, value in one["before"].items():
        assert torch.equal(value, one["after"][name]) == ("block" in name), name


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 2])
def test_zero_stages_give_the_same_weights(tmp_path, zero_stage):
    two = weights_of(2, str(tmp_path / "two.pt"), zero_stage)
    assert_same(two["after"], weights_of(1, str(tmp_path / "one.pt"))["after"])


def test_a_batch_that_cannot_be_shared_is_refused():
    from bench import engine

    with pytest.raises(ValueError, match="--workers-per-trial 3 does not divide"):
        engine.start(nn.Linear(1, 1), SETTINGS, workers=3)
