"""Activation checkpointing: a part whose activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run(part: nn.Module, *inputs: Any, again: bool) -> Any:
    """part(*inputs). With again, and where a gradient is asked for, only the inputs are kept: no number changes."""
    if again and torch.is_grad_enabled():
        return checkpoint(part, *inputs, use_reentrant=False)
    return part(*inputs)
