"""What this machine has to compute with. Torch is imported only where a GPU may be."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """Cores that this process may use: a batch system often gives it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """GPUs that torch can compute on; 0 without asking it where the system has no device of that kind."""
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()):
        return 0
    import torch

    return torch.cuda.device_count()
