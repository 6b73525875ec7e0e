"""The only module that imports DeepSpeed: a segmenter in, an engine out. One worker or many, CPU or GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from bench import thin_convolutions
from bench.schedule import make_optimizer
from bench.settings import AUTOCAST, TrainSettings

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_LOG_LEVEL", "error")

import deepspeed
import deepspeed.ops
import torch.distributed as dist
from deepspeed.utils import logger as deepspeed_logger

Anything = TypeVar("Anything")

deepspeed_logger.setLevel("ERROR")
# Otherwise init_distributed compiles a shared-memory kernel for 80 s, and fails where there is no compiler. The name is
# private to DeepSpeed, hence the tight version range in pyproject.toml.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def device() -> torch.device:
    """Where this process computes: its GPU if it has one. The one place that decides it."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def join() -> tuple[int, int]:
    """Join the process group, or make one of a single worker; returns (rank, number of workers).

    A group that Ray Train has made is adopted. A lone worker needs no network: its store is in its own memory.
    """
    if not dist.is_initialized():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", "0")
    deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False)
    return dist.get_rank(), dist.get_world_size()


def start(model: nn.Module, train: TrainSettings, workers: int, zero_stage: int = 0) -> Any:
    """A DeepSpeed engine around the model, with an optimizer over what is trainable; `set_rate` gives it its rate.

    ValueError if the global batch cannot be divided among the workers.
    """
    if train.batch % workers:
        raise ValueError(f"--workers-per-trial {workers} does not divide train.batch {train.batch}")
    if device().type == "cpu" and train.precision == "bf16":
        thin_convolutions.guard(model)
    trainable = [p for p in model.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(
        model=model.to(device()),
        optimizer=make_optimizer(trainable, train),
        model_parameters=trainable,
        config=_config(train, workers, zero_stage),
        dist_init_required=False,
    )
    # A lone worker's gradients are its own: copying them into one buffer and back for an all-reduce changes nothing.
    engine.enable_backward_allreduce = workers > 1 or zero_stage > 0
    return engine


def set_rate(engine: Any, rate: float) -> None:
    """Set the learning rate of the next optimizer step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def agreed(value: float) -> float:
    """Rank 0's value, on every rank: clocks differ, and workers must step and stop together."""
    if dist.get_world_size() == 1:
        return value
    box = torch.tensor([value], dtype=torch.float64, device=device())
    dist.broadcast(box, src=0)
    return box.item()


def anywhere(*flags: bool) -> tuple[bool, ...]:
    """Of each flag, whether it is set on any rank: the same answer on every rank."""
    return asking_anywhere(*flags)()


def asking_anywhere(*flags: bool) -> Callable[[], tuple[bool, ...]]:
    """`anywhere`, whose answer is waited for when the result is called: no rank stands still for another till then.

    Ranks must ask, and do all else together, in the same order.
    """
    if dist.get_world_size() == 1:
        return lambda: flags
    box = torch.tensor(flags, dtype=torch.float32, device=device())
    asking = dist.all_reduce(box, dist.ReduceOp.MAX, async_op=True)

    def answer() -> tuple[bool, ...]:
        asking.wait()
        return tuple(flag > 0 for flag in box.tolist())

    return answer


def mean(value: float) -> float:
    """The mean over all ranks, on every rank: they must change the learning rate together."""
    if dist.get_world_size() == 1:
        return value
    box = torch.tensor([value], dtype=torch.float64, device=device())
    dist.all_reduce(box)
    return box.item() / dist.get_world_size()


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks of a tensor of float64 on this rank's device, on every rank."""
    if dist.get_world_size() > 1:
        dist.all_reduce(values)
    return values


def gathered(value: Anything) -> list[Anything] | None:
    """Every rank's value, in the ranks' order, on rank 0; None on the others."""
    if dist.get_world_size() == 1:
        return [value]
    box: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, box)
    return box


def by_itself(engine: Any, build: Callable[[], nn.Module]) -> nn.Module:
    """The engine's model, for each rank to call alone, as often as it likes; build makes one like it.

    ZeRO stage 3 cuts the weights up, and a forward pass needs all ranks: there it is a whole copy.
    """
    if engine.zero_optimization_stage() < 3:
        return engine.module
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        weights = {name: value.detach().clone() for name, value in engine.module.state_dict().items()}
    copy = build().to(device())
    copy.load_state_dict(weights)
    return copy


def _config(train: TrainSettings, workers: int, zero_stage: int) -> dict[str, Any]:
    # torch_autocast and not bf16.enabled: the latter takes a dummy Adam step at stage 0 and moves the weights.
    return {
        "train_micro_batch_size_per_gpu": train.batch // workers,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.clip,
        "zero_optimization": {"stage": zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # With fp16 it scales the loss by itself; that has run on a CPU, never on a GPU.
        "torch_autocast": {"enabled": train.precision in AUTOCAST, "dtype": AUTOCAST.get(train.precision, "bfloat16")},
        "steps_per_print": 10**9,
    }
