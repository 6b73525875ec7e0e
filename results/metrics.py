"""Voxel counts and surface distances to metrics, for one case and label or for a million at once.

Source: the usual definitions over the confusion counts of one foreground label (Taha and Hanbury 2015,
doi 10.1186/s12880-015-0068-x). What is undefined is NaN, and a mean leaves it out; nothing is smoothed.

| case | dice, jaccard | precision | recall | accuracy | nsd | hd95 | hd95_penalised |
|---|---|---|---|---|---|---|---|
| both masks empty | NaN | NaN | NaN | NaN | NaN | NaN | NaN |
| reference empty, false positives | 0 | 0 | NaN | as defined | 0 | NaN | diagonal |
| prediction empty, reference not | 0 | NaN | 0 | as defined | 0 | NaN | diagonal |

Where both masks are empty accuracy and specificity would be 1, and a class that is mostly absent would look perfect by
being absent. Balanced accuracy is the mean of recall and specificity, and NaN where one of them is. The diagonal is
that of the native image, in mm. `results.audit` counts how often each row of this table came about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ratio = NDArray[np.float64]
FromCounts = Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike], Ratio]


def _counts(*counts: ArrayLike) -> list[Ratio]:
    """The counts as floats (small integer types would overflow in a sum); ValueError where one is no count."""
    arrays = [np.asarray(count, dtype=np.float64) for count in counts]
    if not all(np.isfinite(array).all() and (array >= 0).all() for array in arrays):
        raise ValueError("voxel counts must be finite and not negative")
    return arrays


def _ratio(part: Ratio, whole: Ratio) -> Ratio:
    """part / whole, and NaN where whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    ratio: Ratio = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def _where_any(foreground: Ratio, ratio: Ratio) -> Ratio:
    """The ratio, and NaN where neither mask has a voxel."""
    return np.where(foreground > 0, ratio, np.nan)


def dice(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """2 TP / (2 TP + FP + FN). All arguments: counts of the same shape, or shapes that broadcast; so is the result."""
    hit, extra, missed, _ = _counts(tp, fp, fn, tn)
    return _ratio(2 * hit, 2 * hit + extra + missed)


def jaccard(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """TP / (TP + FP + FN)."""
    hit, extra, missed, _ = _counts(tp, fp, fn, tn)
    return _ratio(hit, hit + extra + missed)


def precision(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """TP / (TP + FP); NaN where nothing was predicted."""
    hit, extra, _, _ = _counts(tp, fp, fn, tn)
    return _ratio(hit, hit + extra)


def recall(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """TP / (TP + FN), also called sensitivity; NaN where the reference is empty."""
    hit, _, missed, _ = _counts(tp, fp, fn, tn)
    return _ratio(hit, hit + missed)


def specificity(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """TN / (TN + FP); NaN where the reference fills the image, or both masks are empty."""
    hit, extra, missed, rest = _counts(tp, fp, fn, tn)
    return _where_any(hit + extra + missed, _ratio(rest, rest + extra))


def accuracy(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """(TP + TN) / all voxels, close to 1 for any small organ; NaN where both masks are empty."""
    hit, extra, missed, rest = _counts(tp, fp, fn, tn)
    return _where_any(hit + extra + missed, _ratio(hit + rest, hit + rest + extra + missed))


def balanced_accuracy(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """(recall + specificity) / 2."""
    mean: Ratio = (recall(tp, fp, fn, tn) + specificity(tp, fp, fn, tn)) / 2
    return mean


def penalised(
    hd95: ArrayLike, diagonal: ArrayLike, tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike
) -> Ratio:
    """HD95, and the image's diagonal where exactly one of the masks is empty; all in mm."""
    hit, extra, missed, _ = _counts(tp, fp, fn, tn)
    one_empty = (hit + extra == 0) != (hit + missed == 0)
    return np.where(one_empty, np.asarray(diagonal, dtype=np.float64), np.asarray(hd95, dtype=np.float64))


@dataclass(frozen=True)
class Metric:
    """A column of scores. title: its heading; unit: "" for a ratio from 0 to 1, else "mm".

    ratio computes it from TP, FP, FN and TN; None where it is made from surface distances.
    """

    title: str
    ratio: FromCounts | None = None
    higher_is_better: bool = True
    unit: str = ""


#: Every metric that a score has, in the order of the columns of `results.csv`.
METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", dice),
    "jaccard": Metric("Jaccard", jaccard),
    "precision": Metric("Precision", precision),
    "recall": Metric("Sensitivity", recall),
    "specificity": Metric("Specificity", specificity),
    "accuracy": Metric("Accuracy", accuracy),
    "balanced_accuracy": Metric("Balanced accuracy", balanced_accuracy),
    "nsd": Metric("NSD"),
    "hd95": Metric("HD95", higher_is_better=False, unit="mm"),
    "hd95_penalised": Metric("penalised HD95", higher_is_better=False, unit="mm"),
}

#: The metrics of a table of scores, by the profile's name: those of the paper's first version, and of its third.
PROFILES: dict[str, tuple[str, ...]] = {
    "paper": ("dice", "jaccard", "precision", "accuracy"),
    "v3": ("dice", "jaccard", "hd95", "hd95_penalised", "nsd", "recall", "specificity"),
}
