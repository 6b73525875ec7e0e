"""Voxel counts to ratios, for one case and label or for a million at once.

Source: the usual definitions over the confusion counts of one foreground label (Taha and Hanbury 2015,
doi 10.1186/s12880-015-0068-x). What is undefined is NaN, and a mean leaves it out; nothing is smoothed.

| case | dice, jaccard | precision | recall | accuracy |
|---|---|---|---|---|
| both masks empty | NaN | NaN | NaN | 1 |
| reference empty, false positives | 0 | 0 | NaN | as defined |
| prediction empty, reference not | 0 | NaN | 0 | as defined |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ratio = NDArray[np.float64]


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
    """TN / (TN + FP); NaN where the reference fills the image."""
    _, extra, _, rest = _counts(tp, fp, fn, tn)
    return _ratio(rest, rest + extra)


def accuracy(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Ratio:
    """(TP + TN) / all voxels; defined for every image, and close to 1 for any small organ."""
    hit, extra, missed, rest = _counts(tp, fp, fn, tn)
    return _ratio(hit + rest, hit + rest + extra + missed)


#: The four that every table shows, in their order.
METRICS: dict[str, Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike], Ratio]] = {
    "dice": dice,
    "jaccard": jaccard,
    "precision": precision,
    "accuracy": accuracy,
}
