"""Tests and effect sizes: against scipy and statsmodels, and against published worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from results import significance
from results.samples import spread

# Darwin's maize: cross- minus self-fertilised plants of 15 pairs, in eighths of an inch. Fisher, The Design of
# Experiments (1935), chapter III: t = 2.148 with 14 degrees of freedom. Wilcoxon, Biometrics Bulletin 1 (1945), 80–83,
# doi 10.2307/3001968, ranks the same pairs: the ranks of the negative ones sum to 24, of all to 120.
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)

# between 9 and 14 scipy takes seconds for a sample with ties: one such is tested apart
coarse = st.one_of(*(st.lists(st.integers(-6, 6), min_size=low, max_size=high) for low, high in ((0, 8), (14, 20))))
coarse = coarse.map(lambda values: np.array(values) / 8)
fine = st.lists(st.floats(-1, 1).filter(lambda value: value != 0), min_size=6, max_size=60, unique_by=abs).map(np.array)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_published_example_wilcoxon():
    negative = stats.rankdata(np.abs(MAIZE))[MAIZE < 0].sum()
    assert negative == 24
    # exact: 2 × 676 of the 2¹⁵ signs have a sum of 24 or less
    assert significance.wilcoxon([MAIZE])[0] == pytest.approx(2 * 676 / 2**15)
    assert significance.rank_biserial([MAIZE])[0] == pytest.approx((96 - 24) / 120)


def test_published_example_effect_size_from_fishers_t():
    assert significance.cohen_dz([MAIZE])[0] * np.sqrt(15) == pytest.approx(2.148, abs=5e-4)


def test_published_example_holm():
    """The example of the encyclopaedia's article on the method: of 0.01, 0.03, 0.04, 0.005 the first and last hold."""
    adjusted = significance.holm([0.01, 0.03, 0.04, 0.005], ["a"] * 4)
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # that of Pingouin's documentation (Vallat 2018, doi 10.21105/joss.01026)
    adjusted = significance.holm([0.50, 0.003, 0.32, 0.054, 0.0003], ["a"] * 5)
    assert adjusted == pytest.approx([0.64, 0.012, 0.64, 0.162, 0.0015])


def test_published_example_sample_size():
    """Brysbaert 2019, doi 10.5334/joc.72: two conditions within 52 participants for d 0.4, and 34 for 0.5 (G*Power)."""
    for dz, pairs in ((0.4, 52), (0.5, 34)):
        assert significance.detectable_dz(pairs) <= dz < significance.detectable_dz(pairs - 1)


@settings(max_examples=30, deadline=None)
@given(samples=st.lists(st.one_of(coarse, fine), max_size=6))
def test_wilcoxon_is_scipys_of_each_sample(samples):
    for sample, p in zip(samples, significance.wilcoxon(samples), strict=True):
        if len(sample) < 6:
            assert np.isnan(p)
        elif not sample.any():
            assert p == 1
        else:
            assert p == pytest.approx(stats.wilcoxon(sample).pvalue, rel=1e-9)


def test_ties_among_thirteen_are_scipys_permutations():
    sample = np.array([1, 1, 2, -2, 3, 0, 3, 5, -1, 8, 2, 0, 4]) / 8
    assert significance.wilcoxon([sample])[0] == pytest.approx(stats.wilcoxon(sample).pvalue, rel=1e-12)


@given(sample=coarse.filter(np.any))
def test_rank_biserial_is_made_of_scipys_rank_sums(sample):
    total = stats.rankdata(np.abs(sample[sample != 0])).sum()
    more = stats.wilcoxon(sample, alternative="greater", method="asymptotic").statistic
    assert significance.rank_biserial([sample])[0] == pytest.approx((2 * more - total) / total)


@given(sample=coarse)
def test_effects_change_sign_with_the_arms(sample):
    mine, theirs = significance.rank_biserial([sample, -sample])
    assert (np.isnan(mine) and not len(sample)) or (mine == -theirs and -1 <= mine <= 1)
    mine, theirs = significance.cohen_dz([sample, -sample])
    assert mine == -theirs if spread([sample])[0] > 0 else np.isnan(mine)


def test_effects_of_nothing():
    empty, zeros, equal = np.zeros(0), np.zeros(7), np.full(7, 0.1)
    assert np.isnan(significance.rank_biserial([empty])[0])
    assert list(significance.rank_biserial([zeros, equal])) == [0, 1]
    for sample in (empty, zeros, equal, np.ones(1)):
        assert np.isnan(significance.cohen_dz([sample])[0]) and np.isnan(significance.detectable([sample])[0])
    assert spread([equal])[0] == 0 and np.isnan(spread([np.ones(1)])[0])


@settings(max_examples=15, deadline=None)  # statsmodels collects garbage at every call, which is slow
@given(p=p_values, data=st.data())
def test_holm_is_statsmodels_within_each_family(p, data):
    p = np.array(p)
    family = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=len(p), max_size=len(p))))
    missing = np.array(data.draw(st.lists(st.booleans(), min_size=len(p), max_size=len(p))))
    adjusted = significance.holm(np.where(missing, np.nan, p), family)
    assert np.isnan(adjusted[missing]).all()
    for name in set(family[~missing]):
        here = (family == name) & ~missing
        assert adjusted[here] == pytest.approx(multipletests(p[here], method="holm")[1])


def test_holm_of_nothing():
    assert len(significance.holm([], [])) == 0
    assert np.isnan(significance.holm([np.nan], ["a"])).all()


@settings(deadline=None)
@given(n=st.integers(2, 600))
def test_the_smallest_effect_has_the_power(n):
    dz = significance.detectable_dz(n)
    if n > 2:  # scipy's noncentral t gives no number for the far tail of one degree of freedom
        assert TTestPower().power(dz, n, 0.05, alternative="two-sided") == pytest.approx(0.80, abs=1e-4)
    found = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, dz * np.sqrt(n))
    assert found == pytest.approx(0.80, abs=1e-6)


def test_the_smallest_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 12))
    found = stats.ttest_1samp(values + significance.detectable_dz(12), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.80, abs=4 * np.sqrt(0.8 * 0.2 / 4000))
    sample = values[0]
    assert significance.detectable([sample])[0] == pytest.approx(significance.detectable_dz(12) * sample.std(ddof=1))
