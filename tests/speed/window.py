"""Sliding windows: all that they cost but the network, beside MONAI's."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.speed.harness import Reading, measurement, say, versioned

if TYPE_CHECKING:
    import torch

SIZE, WINDOW, OVERLAP = (256, 256, 160), (96, 96, 96), 0.5
#: Background and two labels, as the middle one of MSD's ten tasks has; then those of a task with one label.
CLASSES, FEW = 3, 2
BAR, TOLERANCE = 0.5, 1e-5


class Network:
    """A voxelwise map to K classes and their softmax, which keeps count of the time it takes itself."""

    def __init__(self, classes: int) -> None:
        import torch

        torch.manual_seed(0)
        self.head = torch.nn.Conv3d(1, classes, 1).requires_grad_(False)
        self.seconds = 0.0

    def __call__(self, image_BCXYZ: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        probability = self.head(image_BCXYZ).softmax(1)
        self.seconds += time.perf_counter() - start
        return probability


def ours(network: Network, image: Any, take: Callable[[Any], Any]) -> None:
    """Give each finished slab to take, as a prediction goes on to the native grid."""
    from bench.windows import slabs

    for slab in slabs(network, image[0].numpy(), WINDOW, OVERLAP):
        take(slab)


def theirs(network: Network, image: Any, take: Callable[[Any], Any]) -> None:
    from monai.inferers import sliding_window_inference

    take(sliding_window_inference(image, WINDOW, 1, network, overlap=OVERLAP, mode="gaussian")[0])


def overhead(side: Callable[..., None], network: Network, image: Any) -> float:
    """Seconds of one prediction, without those in the network."""
    network.seconds = 0.0
    start = time.perf_counter()
    side(network, image, lambda part: None)
    return time.perf_counter() - start - network.seconds


def difference(network: Network, image: Any) -> float:
    """The largest difference between ours and theirs."""
    import torch

    parts: list[torch.Tensor] = []
    ours(network, image, lambda slab: parts.append(slab.clone()))
    whole: list[torch.Tensor] = []
    theirs(network, image, whole.append)
    return float((torch.cat(parts, 1) - whole[0]).abs().max())


def _reading(classes: int, runs: int) -> Reading:
    import torch

    network, image = Network(classes), torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    off = difference(network, image)  # also the call that warms both up
    if off > TOLERANCE:
        raise AssertionError(f"ours and MONAI's differ by {off:.2g}, more than {TOLERANCE}")
    taken: tuple[list[float], list[float]] = ([], [])
    for run in range(runs):
        for seconds, side in zip(taken, (ours, theirs), strict=True):
            seconds.append(overhead(side, network, image))
        say(f"  run {run + 1} of {runs}: ours {taken[0][-1]:.4g}, peer {taken[1][-1]:.4g}")
    mine, peer = median(taken[0]), median(taken[1])
    return Reading(mine, peer, f"{classes} classes; largest difference {off:.1g}")


_WHAT = (
    "sliding windows over 256×256×160, roi 96³, overlap 0.5, Gaussian, {} classes: all but the network takes at most "
    "half of MONAI's time"
)
for _name, _classes in (("window-overhead", CLASSES), ("window-overhead-one-label", FEW)):
    measurement(_name, _WHAT.format(_classes), versioned("monai"), BAR)(partial(_reading, _classes))
