"""Ratios against hand formulas, the rules for empty masks, and MONAI."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import metrics

COUNT = st.integers(0, 10**9)
ALL = [metric.ratio for metric in metrics.METRICS.values() if metric.ratio]


@settings(deadline=None, max_examples=100)
@given(COUNT, COUNT, COUNT, COUNT)
def test_hand_formulas_and_bounds(tp, fp, fn, tn):
    def by_hand(part, whole):
        return part / whole if whole else math.nan

    expected = {
        metrics.dice: by_hand(2 * tp, 2 * tp + fp + fn),
        metrics.jaccard: by_hand(tp, tp + fp + fn),
        metrics.precision: by_hand(tp, tp + fp),
        metrics.accuracy: by_hand(tp + tn, tp + fp + fn + tn) if tp + fp + fn else math.nan,
        metrics.recall: by_hand(tp, tp + fn),
        metrics.specificity: by_hand(tn, tn + fp) if tp + fp + fn else math.nan,
    }
    for metric, value in expected.items():
        found = float(metric(tp, fp, fn, tn))
        assert found == pytest.approx(value, abs=1e-12, nan_ok=True)
        assert math.isnan(found) or 0 <= found <= 1
    dice, jaccard = expected[metrics.dice], expected[metrics.jaccard]
    assert jaccard == pytest.approx(dice / (2 - dice), nan_ok=True)


def test_rules_for_empty_masks():
    both_empty, no_reference, no_prediction = (0, 0, 0, 9), (0, 4, 0, 5), (0, 0, 4, 5)
    assert math.isnan(metrics.dice(*both_empty)) and math.isnan(metrics.jaccard(*both_empty))
    assert all(math.isnan(ratio(*both_empty)) for ratio in ALL)
    assert metrics.dice(*no_reference) == metrics.jaccard(*no_reference) == metrics.precision(*no_reference) == 0
    assert math.isnan(metrics.recall(*no_reference))
    assert metrics.dice(*no_prediction) == 0 and math.isnan(metrics.precision(*no_prediction))


@pytest.mark.parametrize("metric", ALL)
def test_vectorised_and_safe_with_small_integers(metric):
    tp, fp, fn, tn = np.array([[200, 0], [100, 0], [50, 0], [250, 7]], np.uint8)
    found = metric(tp, fp, fn, tn)
    assert found.shape == (2,)
    assert found[0] == metric(200, 100, 50, 250)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf])
def test_what_is_no_count_is_refused(metric, wrong):
    with pytest.raises(ValueError, match="counts"):
        metric(5, wrong, 5, 5)


@pytest.mark.slow  # importing MONAI takes seconds
def test_equal_to_monai_where_it_is_defined():
    import torch
    from monai.metrics import compute_confusion_matrix_metric, compute_dice, compute_iou, get_confusion_matrix

    random = np.random.default_rng(0)
    for density in (0.05, 0.5, 0.95):
        predicted, reference = (torch.from_numpy(random.random((1, 1, 9, 8, 7)) < density) for _ in range(2))
        tp, fp, fn, tn = (
            int(one.sum())
            for one in (predicted & reference, predicted & ~reference, ~predicted & reference, ~predicted & ~reference)
        )
        matrix = get_confusion_matrix(predicted.float(), reference.float())
        theirs = {
            metrics.dice: compute_dice(predicted.float(), reference.float()),
            metrics.jaccard: compute_iou(predicted.float(), reference.float()),
            metrics.precision: compute_confusion_matrix_metric("precision", matrix),
            metrics.accuracy: compute_confusion_matrix_metric("accuracy", matrix),
            metrics.recall: compute_confusion_matrix_metric("sensitivity", matrix),
            metrics.specificity: compute_confusion_matrix_metric("specificity", matrix),
        }
        for metric, value in theirs.items():
            assert float(metric(tp, fp, fn, tn)) == pytest.approx(float(value), abs=1e-6)
