"""Counts and surface distances: against masks, brute force, MONAI, and the rules for empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import plan, preflight
from bench.scoring import surface
from bench.scoring.case import score_case
from bench.scoring.counts import confusion, foreground_box
from bench.study import StudySpec
from results import summary
from tests.conftest import write_task
from tests.results import fake

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)
SPACINGS = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 1.3, 2.5, 9.0])] * 3)


def dense(shape, top, seed):
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(np.uint8)


@st.composite
def pairs(draw, top=2):
    """Two volumes of one shape with values up to top; sparse, dense or in one corner, in either memory order."""
    shape = draw(SHAPES)
    volumes = []
    for _ in range(2):
        sparse = hnp.arrays(np.uint8, shape, elements=st.integers(0, top), fill=st.just(0))
        volume = draw(sparse | st.builds(dense, st.just(shape), st.just(top), st.integers(0, 999)))
        volumes.append(np.asarray(volume, order=draw(st.sampled_from("CF"))))
    return tuple(volumes)


def scored(prediction, reference, spacing=(1.0, 1.0, 1.0), labels=("a", "b"), tolerance=1.0):
    return score_case(prediction, reference, spacing, labels, "case", "patient", tolerance)


@settings(deadline=None)
@given(pairs())
def test_counts_are_those_of_masks_and_add_up_to_the_image(pair):
    prediction, reference = pair
    for score, value in zip(scored(prediction, reference), (1, 2), strict=True):
        p, r = prediction == value, reference == value
        assert (score.tp, score.fp, score.fn) == ((p & r).sum(), (p & ~r).sum(), (~p & r).sum())
        assert score.tp + score.fp + score.fn + score.tn == reference.size


@settings(deadline=None)
@given(st.sampled_from([2, 15, 16, 17, 200, 256]), st.integers(0, 99))
def test_the_table_of_pairs_for_few_and_many_values(classes, seed):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 9, 3))
    p, r = (random.integers(0, classes, shape).astype(np.uint8) for _ in range(2))
    joint = np.bincount(r.ravel() * np.int64(classes) + p.ravel(), minlength=classes**2)
    np.testing.assert_array_equal(confusion(p, r, classes), joint.reshape(classes, classes))


@settings(deadline=None)
@given(pairs())
def test_the_box_is_the_smallest(pair):
    box = foreground_box(pair[0])
    places = np.argwhere(pair[0])
    if not len(places):
        assert box is None
    else:
        low, high = places.min(0), places.max(0) + 1
        assert box == tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def surface_points(mask, spacing):
    """In mm, voxel by voxel: a mask's voxels with one of six neighbours outside it, or outside the image."""
    found = []
    for place in np.argwhere(mask):
        for axis, step in ((a, s) for a in range(3) for s in (-1, 1)):
            near = place.copy()
            near[axis] += step
            if not 0 <= near[axis] < mask.shape[axis] or not mask[tuple(near)]:
                found.append(place * np.array(spacing))
                break
    return np.array(found)


def brute(prediction, reference, spacing):
    one, other = (surface_points(mask, spacing) for mask in (prediction, reference))
    table = np.linalg.norm(one[:, None] - other[None], axis=2)
    return table.min(1), table.min(0)


@settings(deadline=None, max_examples=150)
@given(pairs(top=1), SPACINGS)
def test_distances_equal_brute_force(pair, spacing):
    prediction, reference = (volume == 1 for volume in pair)
    if prediction.any() and reference.any():
        ours, theirs = surface.distances(prediction, reference, spacing), brute(prediction, reference, spacing)
        for found, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-9)


@pytest.mark.parametrize("voxels_an_element", [0, 10**9], ids=["tree", "transform"])
@pytest.mark.parametrize("looks", [1, 40])
def test_each_way_to_a_distance_gives_the_same(monkeypatch, voxels_an_element, looks):
    monkeypatch.setattr(surface, "_VOXELS_AN_ELEMENT", voxels_an_element)
    monkeypatch.setattr(surface, "_LOOKS", looks)
    surface._offsets.cache_clear()
    random = np.random.default_rng(3)
    for spacing in ((1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (4.0, 0.3, 1.1)):
        prediction, reference = (random.random((9, 14, 6)) < density for density in (0.02, 0.01))
        found = surface.distances(prediction, reference, spacing)
        for ours, theirs in zip(found, brute(prediction, reference, spacing), strict=True):
            np.testing.assert_allclose(np.sort(ours), np.sort(theirs), atol=1e-9)
    surface._offsets.cache_clear()


def test_by_hand():
    """Two voxels 3 apart along an axis of 2 mm, and one that both have."""
    prediction, reference = np.zeros((2, 9, 9, 9), np.uint8)
    prediction[1, 1, 1] = prediction[7, 7, 7] = 1
    reference[4, 1, 1] = reference[7, 7, 7] = 1
    (score,) = scored(prediction, reference, (2.0, 1.0, 1.0), ("a",), tolerance=5.9)
    assert (score.tp, score.fp, score.fn, score.tn) == (1, 1, 1, 726)
    assert score.nsd == 0.5 and score.hd95 == pytest.approx(0.95 * 6)
    assert score.diagonal == pytest.approx(math.sqrt(18**2 + 9**2 + 9**2))
    assert scored(prediction, reference, (2.0, 1.0, 1.0), ("a",), tolerance=6.0)[0].nsd == 1.0


def test_a_distance_that_is_the_tolerance_but_for_rounding_is_within_it():
    prediction, reference = np.zeros((2, 9, 1, 1), np.uint8)
    prediction[0], reference[3] = 1, 1
    assert 3 * np.float64(np.float32(0.7)) != 2.1
    assert scored(prediction, reference, (np.float32(0.7), 1, 1), ("a",), tolerance=2.1)[0].nsd == 1.0


@settings(deadline=None, max_examples=60)
@given(pairs(top=1), SPACINGS, st.integers(0, 3), st.permutations(range(3)))
def test_distances_know_neither_place_nor_direction(pair, spacing, margin, axes):
    ours = scored(*pair, spacing, ("a",))[0]
    moved = [np.flip(np.pad(volume, margin).transpose(axes), 0) for volume in pair]
    theirs = scored(*moved, tuple(spacing[axis] for axis in axes), ("a",))[0]
    assert (ours.nsd is None) == (theirs.nsd is None) and (ours.hd95 is None) == (theirs.hd95 is None)
    assert ours.nsd is None or ours.nsd == pytest.approx(theirs.nsd)
    assert ours.hd95 is None or ours.hd95 == pytest.approx(theirs.hd95)


def empty_and_full():
    empty, full = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    full[1:3, 1:3, 1:3] = 1
    return empty, full


#: prediction, reference → what each column holds: NaN where undefined.
RULES = {
    "both empty": (0, 0, {"dice": None, "jaccard": None, "precision": None, "recall": None, "specificity": None,
                          "accuracy": None, "balanced_accuracy": None, "nsd": None, "hd95": None,
                          "hd95_penalised": None}),
    "reference empty": (1, 0, {"dice": 0.0, "jaccard": 0.0, "precision": 0.0, "recall": None, "specificity": 0.875,
                               "accuracy": 0.875, "balanced_accuracy": None, "nsd": 0.0, "hd95": None,
                               "hd95_penalised": math.sqrt(48)}),
    "prediction empty": (0, 1, {"dice": 0.0, "jaccard": 0.0, "precision": None, "recall": 0.0, "specificity": 1.0,
                                "accuracy": 0.875, "balanced_accuracy": 0.5, "nsd": 0.0, "hd95": None,
                                "hd95_penalised": math.sqrt(48)}),
    "neither": (1, 1, {"dice": 1.0, "jaccard": 1.0, "precision": 1.0, "recall": 1.0, "specificity": 1.0,
                       "accuracy": 1.0, "balanced_accuracy": 1.0, "nsd": 1.0, "hd95": 0.0, "hd95_penalised": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_for_empty_masks(rule):
    prediction, reference, expected = RULES[rule]
    masks = empty_and_full()
    scores = scored(masks[prediction], masks[reference], labels=("a",))
    row = summary.long_table([fake.complete(fake.spec(), fake.task(), tuple(scores))]).iloc[0]
    assert list(expected) == list(summary.METRICS)
    for metric, value in expected.items():
        assert row[metric] == pytest.approx(math.nan if value is None else value, nan_ok=True), metric


def test_grids_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"case: prediction .* differ in shape"):
        scored(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("side", ["prediction", "reference"])
def test_a_value_without_a_label_is_refused(side):
    clean, wrong = np.zeros((2, 3, 3, 3), np.uint8)
    wrong[1, 1, 1] = 3
    pair = (wrong, clean) if side == "prediction" else (clean, wrong)
    with pytest.raises(ValueError, match=f"case: {side} has the value 3; with 2 labels the largest is 2"):
        scored(*pair)


@pytest.mark.parametrize(
    ("task", "given_mm", "used_mm"), [("Task04_Hippocampus", 0, 1.0), ("Task99_Own", 0, 2.0), ("Task99_Own", 3.5, 3.5)]
)
def test_the_tolerance_that_is_used_is_in_the_specification(tmp_path, task, given_mm, used_mm):
    write_task(tmp_path / "data", task, cases=2)
    study = StudySpec(
        ("none",), data=str(tmp_path / "data"), settings={"data": {"tolerance": given_mm}}, out=str(tmp_path / "run")
    )
    (job,) = plan.expand(study, preflight.check(study, lambda text: None))
    assert job.spec.data["tolerance"] == used_mm


@pytest.mark.slow  # importing MONAI takes seconds
@settings(deadline=None, max_examples=60)
@given(pairs(), SPACINGS, st.sampled_from([0.5, 1.0, 2.0, 2.1]))
def test_equal_to_monai(pair, spacing, tolerance):
    import torch
    from monai.metrics import (
        compute_confusion_matrix_metric,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        compute_surface_dice,
        get_confusion_matrix,
    )

    hot = [torch.from_numpy(np.stack([volume == value for value in (1, 2)]))[None].float() for volume in pair]
    matrix = get_confusion_matrix(*hot)
    theirs = {
        "dice": compute_dice(*hot),
        "jaccard": compute_iou(*hot),
        "precision": compute_confusion_matrix_metric("precision", matrix),
        "recall": compute_confusion_matrix_metric("sensitivity", matrix),
        "specificity": compute_confusion_matrix_metric("specificity", matrix),
        "accuracy": compute_confusion_matrix_metric("accuracy", matrix),
        "balanced_accuracy": compute_confusion_matrix_metric("balanced accuracy", matrix),
        "nsd": compute_surface_dice(*hot, [tolerance] * 2, include_background=True, spacing=spacing),
        "hd95": compute_hausdorff_distance(*hot, include_background=True, percentile=95, spacing=spacing),
    }
    scores = tuple(scored(*pair, spacing, tolerance=tolerance))
    frame = summary.long_table([fake.complete(fake.spec(), fake.task(), scores)])
    for metric, values in theirs.items():
        for ours, value, score in zip(frame[metric], values.reshape(2).tolist(), scores, strict=True):
            if score.tp + score.fn or metric in ("accuracy", "specificity", "nsd"):  # elsewhere its rules differ
                expected = math.nan if math.isinf(value) else value
                assert ours == pytest.approx(expected, abs=1e-4 if metric == "hd95" else 1e-6, nan_ok=True), metric
