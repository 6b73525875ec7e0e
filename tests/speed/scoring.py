"""Scoring a large case, against MONAI's metrics: counts of four labels, surface distances of three."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tests.speed.harness import Reading, alternate, measurement, say, versioned

if TYPE_CHECKING:
    import numpy as np

SHAPE = (512, 512, 100)
SPACING = (0.8, 0.8, 2.5)
TOLERANCE = 2.0
NAMES = ("liver", "spleen", "kidney", "tumour")
#: Centre and radii, in voxels, of bodies as large as these organs are in a CT of this size.
_BODIES = (
    ((190, 260, 50), (110, 90, 36)),
    ((360, 300, 55), (55, 45, 28)),
    ((300, 200, 40), (40, 35, 30)),
    ((250, 330, 60), (30, 25, 18)),
)
#: How far a predicted outline strays, as a share of the body's radii (standard deviation).
_STRAY = 0.05


@functools.cache
def large_case() -> tuple[np.ndarray, np.ndarray]:
    """(prediction, reference) uint8: four bodies with uneven outlines, and the same with a smooth error of the outline.

    1.5, 0.29, 0.18 and 0.06 million voxels; Dice 0.95 to 0.96, as a good network's. The reference lies in memory as a
    NIfTI file gives it, first axis fastest, the prediction as our own code writes it.
    """
    import numpy as np
    from scipy import ndimage

    say("  drawing a case of 512 × 512 × 100 voxels")
    random = np.random.default_rng(0)
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for value, (centre, radii) in enumerate(_BODIES, start=1):
        ends = [
            (max(0, c - 3 * r // 2), min(side, c + 3 * r // 2)) for c, r, side in zip(centre, radii, SHAPE, strict=True)
        ]
        axes = [(np.arange(*end) - c) / r for end, c, r in zip(ends, centre, radii, strict=True)]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        waves = 0.08 * np.sin(5 * x + 1) * np.cos(4 * y) + 0.05 * np.sin(7 * z + 2 * x)
        radius = np.sqrt(x * x + y * y + z * z) + waves
        knots = random.normal(size=(6, 6, 4))
        stray = ndimage.zoom(knots, np.array(radius.shape) / knots.shape, order=3)
        box = tuple(slice(*end) for end in ends)
        reference[box][radius < 1] = value
        prediction[box][radius + _STRAY * stray < 1] = value
    return prediction, np.asfortranarray(reference)


def one_hot(volume: np.ndarray, classes: int) -> Any:
    """(1, classes, X, Y, Z) float32, last axis fastest: the type and order that MONAI's metrics are fastest with."""
    import numpy as np
    import torch

    volume = np.ascontiguousarray(volume)
    return torch.from_numpy(np.stack([volume == value for value in range(classes)]).astype(np.float32))[None]


@measurement(
    "score-counts",
    "Dice, Jaccard, precision and accuracy of 512 × 512 × 100 voxels with 4 labels, equal to 1e-6",
    "monai DiceMetric, MeanIoU, ConfusionMatrixMetric",
    1 / 20,
)
def score_counts(runs: int) -> Reading:
    """MONAI gets its one-hot volumes ready-made, and precision and accuracy from one confusion matrix.

    MONAI holds counts as float32, which is not exact above 2^24 voxels: in the whole image its precision of the tumour
    is 1.6e-5 off. So equality is asked of the box around the foreground, and of accuracy in the whole image.
    """
    import numpy as np
    from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU

    from bench.scoring.counts import confusion, foreground_box, united
    from results import metrics

    prediction, reference = large_case()
    hot = [one_hot(volume, len(NAMES) + 1) for volume in (prediction, reference)]

    def ours() -> np.ndarray:
        table = confusion(prediction, reference, len(NAMES) + 1)
        tp = np.diag(table)[1:]
        fn, fp = table.sum(1)[1:] - tp, table.sum(0)[1:] - tp
        counts = (tp, fp, fn, table.sum() - tp - fp - fn)
        return np.stack([metrics.METRICS[name].ratio(*counts) for name in metrics.PROFILES["paper"]])

    def theirs(hot: list[Any] = hot) -> np.ndarray:
        both = ConfusionMatrixMetric(False, ["precision", "accuracy"], reduction="none")
        rows = []
        for metric in (DiceMetric(False, reduction="none"), MeanIoU(False, reduction="none"), both):
            metric(*hot)
            found = metric.aggregate()
            rows += [one[0].numpy() for one in (found if isinstance(found, list) else [found])]
        return np.stack(rows)

    box = united(foreground_box(prediction), foreground_box(reference))
    boxed = theirs([volume[(slice(None), slice(None), *box)] for volume in hot])
    np.testing.assert_allclose(ours()[:3], boxed[:3], atol=1e-6, rtol=0)
    np.testing.assert_allclose(ours()[3], theirs()[3], atol=1e-6, rtol=0)
    mine, peer = alternate(ours, theirs, runs, warm=False)
    return Reading(mine, peer, note=versioned("monai"))


@measurement(
    "score-distances",
    "NSD and HD95 of 3 classes of 512 × 512 × 100 voxels, equal to 1e-4 mm",
    "monai compute_surface_dice, compute_hausdorff_distance",
    1 / 4,
)
def score_distances(runs: int) -> Reading:
    """Ours is the whole scoring of a case, counts included; MONAI's two functions get one-hot volumes ready-made."""
    import numpy as np
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    from bench.scoring.case import score_case

    prediction, reference = (np.where(volume > 3, 0, volume).astype(np.uint8) for volume in large_case())
    hot = [one_hot(volume, 4).bool() for volume in (prediction, reference)]

    def ours() -> np.ndarray:
        scores = score_case(prediction, reference, SPACING, NAMES[:3], "case", "patient", TOLERANCE)
        return np.array([[score.nsd for score in scores], [score.hd95 for score in scores]])

    def theirs() -> np.ndarray:
        nsd = compute_surface_dice(*hot, [TOLERANCE] * 3, spacing=SPACING)
        return np.stack([nsd[0].numpy(), compute_hausdorff_distance(*hot, percentile=95, spacing=SPACING)[0].numpy()])

    found = ours()
    np.testing.assert_allclose(found, theirs(), atol=1e-4, rtol=0)
    mine, peer = alternate(ours, theirs, runs, warm=False)
    told = ", ".join(
        f"{name} NSD {nsd:.3f} HD95 {far:.2f} mm" for name, nsd, far in zip(NAMES[:3], *found, strict=True)
    )
    return Reading(mine, peer, note=f"{versioned('monai')}; {told}")
