"""Convolutions over a thin grid, kept out of bf16 on a CPU, where their gradients are wrong.

Measured with torch 2.13 on a CPU that multiplies bf16: of a padded 3x3x3 convolution whose first axis has two voxels,
the gradient of the weights was wrong in each of 60 random cases, and often no number; with other sides and in fp16 it
was right (`tests/bench/test_precision.py` tries them). A coarse grid of a small crop is such a case.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn


def guard(model: nn.Module) -> None:
    """Let every 3D convolution of the model compute in fp32, also under autocast, where its input is too thin."""
    for part in model.modules():
        if isinstance(part, nn.Conv3d) and part.kernel_size[0] > 1:
            part.forward = functools.partial(_guarded, part)  # type: ignore[method-assign]


def _guarded(conv: nn.Conv3d, x_BCXYZ: Tensor) -> Tensor:
    kind = x_BCXYZ.device.type
    if x_BCXYZ.shape[2] >= conv.kernel_size[0] or not torch.is_autocast_enabled(kind):
        return nn.Conv3d.forward(conv, x_BCXYZ)
    with torch.autocast(kind, enabled=False):
        return nn.Conv3d.forward(conv, x_BCXYZ.float()).to(torch.get_autocast_dtype(kind))
