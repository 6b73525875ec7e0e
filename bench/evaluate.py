"""A trained model and a prepared image in, class probabilities out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mvl.config import Size3


@torch.no_grad()
def predict(model: nn.Module, image_CXYZ: NDArray[np.float32], window: Size3, overlap: float, classes: int) -> Tensor:
    """Class probabilities (K, X, Y, Z) of one prepared image, from windows blended with a Gaussian.

    Sums are added up in place; a volume smaller than the window is padded with zeros, as in training.
    """
    where = next(model.parameters()).device
    size = image_CXYZ.shape[1:]
    padded = _pad(np.asarray(image_CXYZ, dtype=np.float32), window)
    weight_XYZ = gaussian(window)
    total = torch.zeros((classes, *padded.shape[1:]))
    norm = torch.zeros(padded.shape[1:])
    model.eval()
    for corner in corners(padded.shape[1:], window, overlap):
        at = tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))
        crop = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *at)]))[None].to(where)
        probability = model(crop).float().softmax(dim=1)[0].cpu()
        total[(slice(None), *at)] += probability * weight_XYZ
        norm[at] += weight_XYZ
    total /= norm
    x, y, z = size
    return total[:, :x, :y, :z]


def corners(size: Sequence[int], window: Size3, overlap: float) -> list[Size3]:
    """The windows' first voxels: evenly spread, the last one flush with the end, neighbours overlapping by a share."""
    axes = []
    for side, width in zip(size, window, strict=True):
        step = max(1, int(width * (1 - overlap)))
        count = 1 + max(0, -(-(side - width) // step))
        axes.append(np.linspace(0, max(0, side - width), count).round().astype(int).tolist())
    return [(x, y, z) for x, y, z in itertools.product(*axes)]


def gaussian(window: Size3) -> Tensor:
    """Weights (X, Y, Z) with a standard deviation of an eighth of each side, at least 1e-3 of the peak everywhere."""
    axes = [torch.exp(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in window]
    product = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    return (product / product.max()).clamp_min(1e-3)


def _pad(image_CXYZ: NDArray[np.float32], window: Size3) -> NDArray[np.float32]:
    missing = [max(0, width - side) for side, width in zip(image_CXYZ.shape[1:], window, strict=True)]
    return np.pad(image_CXYZ, [(0, 0), *((0, m) for m in missing)]) if any(missing) else image_CXYZ
