"""Tests and effect sizes of paired differences: Wilcoxon, Holm, rank-biserial correlation, Cohen's dz, smallest effect.

Rules, the same everywhere: two-sided, alpha 0.05, power 0.80; no p-value from fewer than MIN_PAIRS differences, since
five pairs cannot reach 0.05 whatever they are (2 / 2⁵ = 0.0625).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats
from statsmodels.stats.power import TTestPower

from results.samples import of_each, spread

Floats = NDArray[np.float64]

MIN_PAIRS = 6
ALPHA = 0.05
POWER = 0.80
#: Up to as many differences with ties or zeros, scipy tries all signs.
_ALL_SIGNS = 13


def wilcoxon(samples: Sequence[Floats]) -> Floats:
    """(K,): the p-value of each sample's signed-rank test; missing where it has fewer than MIN_PAIRS differences.

    scipy's method "auto": exact without ties and zeros up to 50 differences, by all permutations with them up to 13,
    else by the normal approximation. zero_method "wilcox": differences of 0 are left out; where all are 0, p is 1.
    """
    return of_each(samples, _wilcoxon, MIN_PAIRS)


def holm(p: ArrayLike, family: ArrayLike) -> Floats:
    """(K,): p-values adjusted within their family by Holm's step-down (1979); a missing one is not of the family.

    The same as statsmodels' `multipletests(method="holm")`, which runs Python's garbage collector at every call: longer
    than all the rest of a table's statistics takes.
    """
    values = pd.Series(np.asarray(p, dtype=np.float64)).sort_values(kind="stable").dropna()
    families = np.asarray(family)[values.index]
    left = values.groupby(families).cumcount(ascending=False) + 1
    adjusted = (values * left).groupby(families).cummax().clip(upper=1.0)
    return adjusted.reindex(range(np.size(p))).to_numpy()


def rank_biserial(samples: Sequence[Floats]) -> Floats:
    """(K,): (W⁺ − W⁻) / (W⁺ + W⁻) over the ranks of |difference|, zeros left out; 0 where all are 0, missing for none.

    The matched-pairs rank-biserial correlation, from −1 to 1: Kerby 2014, doi 10.2466/11.IT.3.1.
    """

    def correlation(values_KN: Floats) -> Floats:
        ranks_KN = _signed_ranks(values_KN)
        return ranks_KN.sum(1) / np.maximum(np.abs(ranks_KN).sum(1), 1)

    return of_each(samples, correlation)


def cohen_dz(samples: Sequence[Floats]) -> Floats:
    """(K,): mean over standard deviation of the differences; missing where they do not vary."""
    deviations = spread(samples)
    means = of_each(samples, lambda values_KN: values_KN.mean(1))
    return np.divide(means, deviations, out=np.full(len(samples), np.nan), where=deviations > 0)


def detectable(samples: Sequence[Floats]) -> Floats:
    """(K,): the smallest mean difference that a paired t test on as many cases, as scattered as these, would find.

    `detectable_dz(n)` × the standard deviation of the differences, before any correction for several tests. Missing for
    fewer than two differences, and where they do not vary.
    """
    effects = of_each(samples, lambda values_KN: np.full(len(values_KN), detectable_dz(values_KN.shape[1])), least=2)
    deviations = spread(samples)
    return np.where(deviations > 0, effects * deviations, np.nan)


@cache
def detectable_dz(n: int) -> float:
    """The dz at which n pairs have the power: P(T > t(1 − ALPHA/2, n − 1)) = POWER, T noncentral t(n − 1, dz √n).

    A two-sided test that rejects on the wrong side is no find, and as good as impossible here (below 1e-5).
    """
    test = TTestPower()

    def missing(noncentrality: float) -> float:
        return float(test.power(noncentrality / np.sqrt(n), n, ALPHA / 2, alternative="larger")) - POWER

    # statsmodels' own solver does not converge for some n (109, say); two pairs need 16.3, and more need less
    return float(optimize.brentq(missing, 0.0, 17.0) / np.sqrt(n))


def _wilcoxon(values_KN: Floats) -> Floats:
    """(K,): p-values. One call of scipy's decides on one method for all its rows, hence the kinds apart."""
    p_K = np.ones(len(values_KN))
    sizes_KN = np.sort(np.abs(values_KN), axis=1)
    zero_K = sizes_KN[:, -1] == 0
    uneven_K = ((np.diff(sizes_KN, axis=1) == 0).any(1) | (sizes_KN[:, 0] == 0)) & ~zero_K
    for rows, test in ((~uneven_K & ~zero_K, _by_scipy), (uneven_K, _with_ties)):
        if rows.any():
            p_K[rows] = test(values_KN[rows])
    return p_K


def _by_scipy(values_KN: Floats) -> Floats:
    return stats.wilcoxon(values_KN, zero_method="wilcox", axis=1).pvalue


def _with_ties(values_KN: Floats) -> Floats:
    if values_KN.shape[1] > _ALL_SIGNS:
        return _by_scipy(values_KN)
    parts = np.array_split(values_KN, len(values_KN) // 256 + 1)  # all signs of all rows would not fit in memory
    return np.concatenate([_by_all_signs(part) for part in parts])


def _by_all_signs(values_KN: Floats) -> Floats:
    """(K,): scipy's p-value by all 2ⁿ signs, as one matrix product; scipy itself takes seconds for each test."""
    ranks_KN = _signed_ranks(values_KN)
    n = ranks_KN.shape[1]
    signs_SN = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)
    sums_SK = signs_SN @ np.abs(ranks_KN).T
    observed_K = np.maximum(ranks_KN, 0).sum(1)
    tail_K = np.minimum((sums_SK <= observed_K).mean(0), (sums_SK >= observed_K).mean(0))
    return np.minimum(2 * tail_K, 1.0)


def _signed_ranks(values_KN: Floats) -> Floats:
    """Ranks of |difference| among those that are not 0, with the difference's sign; 0 for a difference of 0."""
    zeros_K1 = (values_KN == 0).sum(1, keepdims=True)
    return np.sign(values_KN) * (stats.rankdata(np.abs(values_KN), axis=1) - zeros_K1)
