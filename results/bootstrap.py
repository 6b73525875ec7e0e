"""Bootstrap intervals of many means at once: BCa over cases, percentiles over tasks and cases.

A resample of n values is a row of n counts, and its mean a product with the values; so all comparisons with the same n
share one table of counts and one matrix product. What is drawn depends on the seed and on the sizes alone: a row's
interval does not change with what else is in the table.

Shapes: K samples, N values in each, B draws, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from results.samples import stacked

Floats = NDArray[np.float64]

LEVEL = 0.95
#: Samples whose replicates are in memory at a time.
_CHUNK = 64


def resample_weights(n: int, draws: int, rng: np.random.Generator) -> Floats:
    """(draws, n): how often each of n values is drawn in a resample of n with replacement, over n. Rows sum to 1."""
    chosen = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * n).reshape(draws, n) / n


def mean_intervals(samples: Sequence[Floats], draws: int, seed: int, level: float = LEVEL) -> Floats:
    """(K, 2): the BCa interval of each sample's mean; the samples may differ in size.

    By rule: of fewer than two values there is no interval (missing), and where all values are equal both ends are that
    value.
    """
    found = np.full((len(samples), 2), np.nan)
    for places, all_KN in stacked(samples, least=2):
        n = all_KN.shape[1]
        weights_NB = resample_weights(n, draws, np.random.default_rng([seed, n])).T
        for start in range(0, len(places), _CHUNK):
            values_KN = all_KN[start : start + _CHUNK]
            jackknife_KN = (values_KN.sum(1, keepdims=True) - values_KN) / (n - 1)
            found[places[start : start + _CHUNK]] = bca(values_KN.mean(1), values_KN @ weights_NB, jackknife_KN, level)
    return found


def bca(observed_K: Floats, replicates_KB: Floats, jackknife_KN: Floats, level: float = LEVEL) -> Floats:
    """(K, 2): bias-corrected and accelerated intervals of any statistic, from its replicates and its jackknife values.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), equations 14.9 to 14.15. Replicates that
    equal the observed value, up to rounding, count half as below it. Where all replicates are equal, they are the
    interval.
    """
    draws = replicates_KB.shape[1]
    lowest, highest = replicates_KB.min(1), replicates_KB.max(1)
    rounding = 1e-9 * (highest - lowest)
    ends_K = observed_K - rounding, observed_K + rounding
    below_K2 = np.stack([np.count_nonzero(replicates_KB < end[:, None], axis=1) for end in ends_K], axis=1)
    # a share of 0 or 1 would be an infinite bias; half a draw is the least that so many draws can tell
    bias_K1 = ndtri(np.clip(below_K2.mean(1, keepdims=True), 0.5, draws - 0.5) / draws)
    shifted_K2 = bias_K1 + ndtri([(1 - level) / 2, (1 + level) / 2])
    levels_K2 = ndtr(bias_K1 + shifted_K2 / (1 - acceleration(jackknife_KN)[:, None] * shifted_K2))
    ends = _quantiles(replicates_KB, levels_K2)
    constant = highest - lowest <= 1e-12 * np.maximum(1, np.abs(observed_K))
    ends[constant] = observed_K[constant, None]
    return ends


def acceleration(jackknife_KN: Floats) -> Floats:
    """(K,): a sixth of the skewness of the jackknife influence values; 0 where they do not vary (equation 14.15)."""
    influence_KN = jackknife_KN.mean(1, keepdims=True) - jackknife_KN
    squares_K = (influence_KN**2).sum(1)
    cubes_K = (influence_KN**3).sum(1)
    return np.divide(cubes_K, 6 * squares_K**1.5, out=np.zeros_like(cubes_K), where=squares_K > 1e-24)


def two_level(
    tasks: Sequence[Floats],
    draws: int,
    seed: int,
    of: Callable[[Floats], Floats] = lambda means: means,
) -> Floats:
    """(K, draws): replicates of the mean over tasks of each sample's mean. Tasks are drawn, then the cases within each.

    tasks: a (K, N) array each, N its number of cases. A task that is drawn twice has its cases drawn twice. of: what
    is averaged over tasks, from a task's (M, K) resampled means to the same shape; ranks, say.
    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8, strategy 1: it errs on
    the wide side.
    """
    rng = np.random.default_rng([seed, *(values.shape[1] for values in tasks)])
    drawn_BT = rng.integers(0, len(tasks), (draws, len(tasks)))
    sums_BK = np.zeros((draws, len(tasks[0])))
    for number, values_KN in enumerate(tasks):
        times_B = (drawn_BT == number).sum(1)
        some = np.flatnonzero(times_B)
        if not len(some):
            continue
        weights_MN = resample_weights(values_KN.shape[1], int(times_B.sum()), rng)
        means_MK = of(weights_MN @ values_KN.T)
        firsts = np.cumsum(times_B[some]) - times_B[some]
        sums_BK[some] += np.add.reduceat(means_MK, firsts, axis=0)
    return sums_BK.T / len(tasks)


def percentile_intervals(replicates_KB: Floats, level: float = LEVEL) -> Floats:
    """(K, 2): the middle part of the replicates."""
    return np.quantile(replicates_KB, [(1 - level) / 2, (1 + level) / 2], axis=1).T


def _quantiles(values_KB: Floats, levels_K2: Floats) -> Floats:
    """Each row's own quantiles, linear between two neighbours (numpy's default)."""
    place_K2 = levels_K2 * (values_KB.shape[1] - 1)
    low_K2 = np.floor(place_K2).astype(int)
    high_K2 = np.minimum(low_K2 + 1, values_KB.shape[1] - 1)
    # four values of a row in their places take less than half the time of a sorted row
    places_K4 = np.hstack([low_K2, high_K2])
    found_K4 = np.stack([np.partition(row, some)[some] for row, some in zip(values_KB, places_K4, strict=True)])
    below, above = found_K4[:, :2], found_K4[:, 2:]
    return below + (above - below) * (place_K2 - low_K2)
