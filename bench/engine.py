"""The only module that imports DeepSpeed: a segmenter in, an engine out. One worker or many, CPU or GPU."""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from bench.presets import TrainSettings

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_LOG_LEVEL", "error")

import deepspeed
import deepspeed.ops
import torch.distributed as dist
from deepspeed.utils import logger as deepspeed_logger

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
    """A DeepSpeed engine around the model, with AdamW over what is trainable, warm-up and cosine.

    ValueError if the global batch cannot be divided among the workers.
    """
    if train.batch % workers:
        raise ValueError(f"--workers-per-trial {workers} does not divide train.batch {train.batch}")
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, train))
    engine, *_ = deepspeed.initialize(
        model=model.to(device()),
        optimizer=optimizer,
        lr_scheduler=schedule,
        model_parameters=trainable,
        config=_config(train, workers, zero_stage),
        dist_init_required=False,
    )
    return engine


def whole(model: nn.Module) -> AbstractContextManager[Any]:
    """A context in which every parameter is here whole: ZeRO stage 3 cuts them up between steps."""
    return deepspeed.zero.GatheredParameters(list(model.parameters()))


def rate(step: int, train: TrainSettings) -> float:
    """The learning rate at a step, as a share of the peak: linear warm-up, then a cosine to zero."""
    warmup = max(1, round(train.warmup * train.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, train.steps - warmup)))


def _config(train: TrainSettings, workers: int, zero_stage: int) -> dict[str, Any]:
    # torch_autocast and not bf16.enabled: the latter takes a dummy Adam step at stage 0 and moves the weights.
    return {
        "train_micro_batch_size_per_gpu": train.batch // workers,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.clip,
        "zero_optimization": {"stage": zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": train.precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }
