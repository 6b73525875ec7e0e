"""How many trials fit into what Ray has, and what each asks for."""

from __future__ import annotations

import ray

from bench.study import StudyError


def slots(workers: int) -> int:
    """How many trials of so many workers fit at a time; StudyError if not even one does, which would wait for ever."""
    kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if there < workers:
        raise StudyError(f"--workers-per-trial: {workers} workers need a {kind} each, and there are {there}")
    return there // workers


def resources(workers: int, cores: int) -> dict[str, float]:
    """What a trial asks for. A lone worker computes on as many cores as trials that were not to run leave it."""
    if workers > 1:
        # The TorchTrainer's workers ask for the cores. Tune refuses an empty request, so it gets one of memory.
        return {"memory": 1024**2}
    return {"cpu": 1, "gpu": 1} if ray.cluster_resources().get("GPU") else {"cpu": cores}
