"""What a trial costs: parameters, seconds, and the peak memory of its own process."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class CostMeter:
    """Starts when it is made. On a CPU the memory is the process's peak resident set, libraries included.

    A process serves many trials, so the peak is set back first; where the system cannot do that (only Linux can) the
    record's `peak_memory_scope` says `process` instead of `trial`.
    """

    def __init__(self) -> None:
        self.marks = {"start": time.perf_counter()}
        self.epochs = list[float]()
        self.scope = "trial"
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            _CLEAR_REFS.write_text("5")
        except OSError:
            self.scope = "process"

    def mark(self, name: str) -> None:
        """Remember when a part of the work ended."""
        self.marks[name] = time.perf_counter()

    def between(self, first: str, second: str) -> float:
        return round(self.marks[second] - self.marks[first], 4)

    def epoch_ended(self, beside: float = 0.0) -> None:
        """beside: the seconds until now that were no training, such as those of validation."""
        self.epochs.append(time.perf_counter() - beside)

    def epoch_seconds(self, since: str, epochs: int, taken_up: bool = False) -> list[float | None]:
        """Seconds of each of so many epochs, the first begun at a mark.

        None for what was not measured from its begin to its end: the epochs before training was taken up again, and
        the one in which it was.
        """
        begins = [self.marks[since], *self.epochs]
        seconds = [round(end - begin, 4) for begin, end in zip(begins, self.epochs, strict=False)]
        whole: list[float | None] = [*([None] if taken_up else seconds[:1]), *seconds[1:]]
        return [None] * (epochs - len(whole)) + whole

    def peak_bytes(self) -> int:
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        if self.scope == "trial":
            line = next(text for text in _STATUS.read_text().splitlines() if text.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def parameters(model: nn.Module) -> dict[str, Any]:
    """Numbers of trainable and of frozen parameters."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "trainable_parameters": trainable,
        "frozen_parameters": sum(p.numel() for p in model.parameters()) - trainable,
    }
