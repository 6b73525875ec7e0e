"""A trained model and a prepared image in, labels and class probabilities on the image's own grid out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.data.grid import Grid, to_ras
from bench.errors import PredictionError
from bench.native import planes
from bench.settings import AUTOCAST
from bench.windows import OnWindows, Predictor, slabs
from mvl.config import Size3
from results.record import TrialSpec


@dataclass(frozen=True)
class Inference:
    """How a prepared image is predicted.

    window is the size of what the model gets, in voxels; overlap that of neighbouring windows, as a share of it; batch
    how many it gets at once. mirror, letters of xyz: the mean is taken over the image and its mirror images along every
    choice of these axes (RAS), none unless asked for, since a mirrored liver is a spleen. precision `bf16` and `fp16`
    compute under autocast, as training does.
    """

    window: Size3
    overlap: float = 0.5
    batch: int = 1
    mirror: str = ""
    precision: str = "fp32"

    @classmethod
    def of(cls, spec: TrialSpec, window: Size3) -> Inference:
        """A trial's own way, for its model's crop."""
        data = spec.data
        return cls(window, data["overlap"], data["windows"], data["mirror"], spec.train["precision"])


def predict(
    model: nn.Module, image_CXYZ: NDArray[np.float32], how: Inference, case: str, on_windows: OnWindows | None = None
) -> Iterator[Tensor]:
    """Class probabilities on the prepared grid, some planes (K, n, Y, Z) at a time along the first axis.

    A slab is gone once the next one is asked for. PredictionError, with the case's name, if one is not a number.
    """
    model.eval()
    for slab in slabs(probabilities(model, how), image_CXYZ, how.window, how.overlap, how.batch, on_windows):
        if not torch.isfinite(slab[0].sum()):  # the background is what the other classes leave: it shows any of them
            raise PredictionError(
                f"{case}: the network's output is not a number; its training went astray, or the image holds values "
                "far outside of those it was trained on"
            )
        yield slab


def predict_native(
    model: nn.Module,
    image_CXYZ: NDArray[np.float32],
    grid: Grid,
    how: Inference,
    case: str,
    on_windows: OnWindows | None = None,
    into_KXYZ: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) uint8 on the native grid: the likeliest class of each voxel, background outside the content.

    Probabilities are resampled linearly before the largest is taken, a few planes at a time: no float array of the
    whole image is held. into_KXYZ is filled with them where it is given. PredictionError as `predict`.
    """
    affine = np.array(grid.affine)
    label = np.zeros(grid.native_shape, dtype=np.uint8)
    label_RAS = to_ras(label[grid.inside], affine)  # a view
    probability_RAS = None
    if into_KXYZ is not None:
        into_KXYZ[0], into_KXYZ[1:] = 1, 0
        probability_RAS = to_ras(into_KXYZ[(slice(None), *grid.inside)], affine)
    for x, plane_KYZ in planes(predict(model, image_CXYZ, how, case, on_windows), grid):
        label_RAS[x] = likeliest(plane_KYZ).cpu().numpy()
        if probability_RAS is not None:
            probability_RAS[:, x] = plane_KYZ.clamp(0, 1).cpu().numpy()
    return label


def likeliest(plane_KYZ: Tensor) -> Tensor:
    """The class with the largest value, the first of equals; (Y, Z) uint8. Ten times as fast as argmax over classes."""
    best_YZ = plane_KYZ[0]
    label_YZ = torch.zeros_like(best_YZ, dtype=torch.uint8)
    for value, plane_YZ in enumerate(plane_KYZ[1:], start=1):
        label_YZ.masked_fill_(plane_YZ > best_YZ, value)
        best_YZ = torch.maximum(best_YZ, plane_YZ)
    return label_YZ


def probabilities(model: nn.Module, how: Inference) -> Predictor:
    """The model's softmax for some windows; with mirror the mean over mirrored copies, turned back.

    It is probabilities that are averaged, over mirrored copies as over overlapping windows.
    """
    device = next(model.parameters()).device
    flips = mirrored(how.mirror)
    dtype = getattr(torch, AUTOCAST.get(how.precision, "bfloat16"))

    @torch.no_grad()
    def predictor(image_BCxyz: Tensor) -> Tensor:
        image_BCxyz = image_BCxyz.to(device)
        mean: Tensor | None = None
        for axes in flips:
            with torch.autocast(device.type, dtype, enabled=how.precision in AUTOCAST):
                logits_BKxyz = model(image_BCxyz.flip(axes) if axes else image_BCxyz)
            part = logits_BKxyz.float().softmax(1)
            part = part.flip(axes) if axes else part
            mean = part if mean is None else mean.add_(part)
        assert mean is not None
        return mean.div_(len(flips)) if len(flips) > 1 else mean

    return predictor


def mirrored(mirror: str) -> list[tuple[int, ...]]:
    """The axes (of B, C, x, y, z) of every mirrored copy, the image itself first."""
    axes = ["xyz".index(letter) + 2 for letter in mirror]
    return [some for count in range(len(axes) + 1) for some in itertools.combinations(axes, count)]
