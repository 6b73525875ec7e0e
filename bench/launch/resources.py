"""How many trials fit into what Ray has, and what each asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import train as ray_train

from bench.running import StudyError
from bench.trial import TrialJob

#: What a node has: `CPU`, `GPU` and more, by Ray's names.
Node = Mapping[str, float]


def nodes() -> list[Node]:
    """What each living node of the cluster has in all."""
    return [one["Resources"] for one in ray.nodes() if one["Alive"]]


def gpu_share(job: TrialJob, there: Sequence[Node]) -> float:
    """The GPU of a worker: as much as was asked for, else one where there is any."""
    return job.gpus if job.gpus is not None else float(any(node.get("GPU") for node in there))


def slots(job: TrialJob, there: Sequence[Node]) -> int:
    """How many trials fit at a time; StudyError if not even one does, which would wait for ever.

    A worker lies on one node; the workers of a trial may lie on several.
    """
    cpus, gpus = max(1, job.cpus), gpu_share(job, there)
    workers = sum(_workers(node, cpus, gpus) for node in there)
    if workers < job.workers:
        kind = "GPU" if gpus else "CPU"
        has = ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in there)
        each = f"{cpus} CPU and {gpus:g} GPU" if gpus or cpus > 1 else f"a {kind}"
        raise StudyError(
            f"--workers-per-trial: {job.workers} workers need {each} each, and there is room for {workers} "
            f"(nodes: {has}); see --gpus-per-worker and --cpus-per-worker"
        )
    return workers // job.workers


def _workers(node: Node, cpus: int, gpus: float) -> int:
    """How many workers a node has room for."""
    fit = int(node.get("CPU", 0) // cpus)
    return min(fit, int(node.get("GPU", 0) / gpus + 1e-6)) if gpus else fit


def cores_each(cpus: Sequence[float], trials: int) -> int:
    """The most cores that each of so many lone workers can have at once on nodes with these cores; 1 at least."""
    most = int(max(cpus, default=1))
    return next((c for c in range(most, 1, -1) if sum(int(node // c) for node in cpus) >= trials), 1)


def resources(job: TrialJob, trials: int, there: Sequence[Node]) -> dict[str, float]:
    """What a trial asks for of the Tune function, where so many run at a time.

    A lone worker computes on as many cores as trials that do not run leave it, unless told how many.
    """
    if job.workers > 1:
        # The TorchTrainer's workers ask for the cores. Tune refuses an empty request, so it gets one of memory.
        return {"memory": 1024**2}
    gpus = gpu_share(job, there)
    free = 1 if gpus else cores_each([node.get("CPU", 0) for node in there], trials)
    return {"cpu": job.cpus or free} | ({"gpu": gpus} if gpus else {})


def scaling(job: TrialJob) -> Any:
    """What the TorchTrainer asks for, worker by worker."""
    gpus = gpu_share(job, nodes())
    each = {"CPU": max(1, job.cpus)} | ({"GPU": gpus} if gpus else {})
    return ray_train.ScalingConfig(num_workers=job.workers, use_gpu=bool(gpus), resources_per_worker=each)
