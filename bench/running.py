"""How a study is run: workers, devices, cluster, what is kept. Nothing here changes a number."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from bench.interval import NEVER, Interval

_ADDRESS = re.compile(r"(?:ray://)?(?:[\w.-]+|\[(?P<ip6>[0-9a-fA-F:]+)\]):(?P<port>\d{1,5})")


class StudyError(ValueError):
    """The request cannot be carried out; the message names the flag or file, what was given and what would work."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """The part of a study that says how to run it.

    gpus_per_worker: None is one where there are GPUs; a part of one is shared by trials of one worker. cpus_per_worker:
    0 reserves one, and a lone worker computes on as many cores as trials that do not run leave it. address: a running
    Ray cluster, as `ray.init` takes it; empty for a Ray of our own on this machine. max_concurrent: 0 is as many as
    fit. activations is of how many held-out cases a trial keeps the activation maps, checkpoint_every what
    `bench.interval` reads, log a tracker of `bench.trackers`. loader_threads cut crops ahead: None is two on a GPU and
    none on a CPU, which has other work for them. validation_crops is what `bench.validation` takes at a time.
    """

    workers_per_trial: int = 1
    gpus_per_worker: float | None = None
    cpus_per_worker: int = 0
    zero_stage: int = 0
    max_concurrent: int = 0
    address: str = ""
    checkpointing: bool = False
    activations: int = 2
    offline: bool = False
    keep_models: bool = True
    checkpoint_every: str = "5m"
    retry_diverged: bool = False
    log: str = ""
    loader_threads: int | None = None
    validation_crops: int = 2

    def __post_init__(self) -> None:
        if self.workers_per_trial < 1:
            raise StudyError(f"--workers-per-trial: {self.workers_per_trial} is below 1")
        if self.zero_stage not in (0, 1, 2, 3):
            raise StudyError(f"--zero-stage: {self.zero_stage} is not one of 0, 1, 2, 3")
        self._check_counts()
        self._check_gpus()
        try:
            Interval.of(self.checkpoint_every, 1, 1)
        except ValueError as error:
            raise StudyError(f"{error}, or {NEVER}") from error
        if self.address not in ("", "auto") and not _is_address(self.address):
            raise StudyError(
                f"--address: {self.address!r} is no address of a Ray cluster; give auto, HOST:PORT or ray://HOST:PORT "
                "with a port from 1 to 65535"
            )

    def _check_counts(self) -> None:
        meaning = {
            "max_concurrent": "0 is as many as fit",
            "activations": "0 keeps no maps",
            "cpus_per_worker": "0 is as many as are free",
            "loader_threads": "0 cuts crops as they are asked for",
            "validation_crops": "0 shows no validation Dice while trials train",
        }
        for name, none in meaning.items():
            if (getattr(self, name) or 0) < 0:
                raise StudyError(f"--{name.replace('_', '-')}: {getattr(self, name)} is below 0; {none}")

    def _check_gpus(self) -> None:
        share, workers = self.gpus_per_worker, self.workers_per_trial
        if share is None or share in (0, 1):
            return
        if not 0 < share < 1:
            raise StudyError(
                f"--gpus-per-worker: {share:g}: a worker computes on one GPU; use 1, 0 (none) or a part such as 0.5, "
                "and --workers-per-trial for a trial on several"
            )
        if workers > 1:
            raise StudyError(
                f"--gpus-per-worker: {share:g} with --workers-per-trial {workers}: workers of one trial cannot share "
                "a GPU; use 1 or 0"
            )


def _is_address(text: str) -> bool:
    found = _ADDRESS.fullmatch(text)
    return bool(found and 0 < int(found["port"]) < 1 << 16 and (not found["ip6"] or _is_ip6(found["ip6"])))


def _is_ip6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


#: What a study file may set of these, and of which kind.
KINDS: dict[str, type] = {
    **dict.fromkeys(("workers_per_trial", "cpus_per_worker", "zero_stage", "max_concurrent"), int),
    **dict.fromkeys(("activations", "loader_threads", "validation_crops"), int),
    "gpus_per_worker": float,
    **dict.fromkeys(("address", "checkpoint_every", "log"), str),
    **dict.fromkeys(("checkpointing", "offline", "keep_models", "retry_diverged"), bool),
}
