"""The states of every random generator that training may draw from: dropout's above all."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def read() -> dict[str, Any]:
    """The states of torch (this process's GPU included), numpy and python, as JSON values and tensors."""
    version, words, gauss = random.getstate()
    key = np.random.get_state(legacy=False)
    state = {
        "torch": torch.get_rng_state(),
        "numpy": {**key, "state": {**key["state"], "key": key["state"]["key"].tolist()}},
        "python": [version, list(words), gauss],
    }
    return state | ({"gpu": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def restore(state: dict[str, Any]) -> None:
    """Set every generator to what `read` gave."""
    torch.set_rng_state(state["torch"])
    if "gpu" in state:
        torch.cuda.set_rng_state(state["gpu"])
    inner = state["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
