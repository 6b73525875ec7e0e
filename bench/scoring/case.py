"""A predicted and a reference label volume in, one score a label out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.scoring import surface
from bench.scoring.counts import Labels, confusion, foreground_box, united
from results.record import CaseScore


def score_case(
    prediction_XYZ: Labels,
    reference_XYZ: Labels,
    spacing_mm: Sequence[float],
    labels: Sequence[str],
    case: str,
    patient: str,
    tolerance_mm: float,
) -> list[CaseScore]:
    """Counts and surface distances of each foreground label, on one grid.

    labels are the names of the values 1, 2, …; spacing is the length of the affine's columns, so that an oblique image
    has its true distances (a sheared one those of the grid without its shear). Labels are taken one at a time: beside
    the two volumes no more is held than two masks of the box around the foreground. ValueError, naming the case, where
    the shapes differ or a value has no label.
    """
    if prediction_XYZ.shape != reference_XYZ.shape:
        raise ValueError(
            f"{case}: prediction {prediction_XYZ.shape} and reference {reference_XYZ.shape} differ in shape"
        )
    try:
        table = confusion(prediction_XYZ, reference_XYZ, len(labels) + 1)
    except ValueError as error:
        raise ValueError(f"{case}: {error}") from error
    x, y, z = (float(step) for step in spacing_mm)
    spacing = (x, y, z)
    diagonal = math.hypot(*(side * step for side, step in zip(reference_XYZ.shape, spacing, strict=True)))
    box = united(foreground_box(prediction_XYZ), foreground_box(reference_XYZ)) or (slice(0),) * 3
    ours, theirs = (np.ascontiguousarray(volume[box]) for volume in (prediction_XYZ, reference_XYZ))
    scores = []
    for value, label in enumerate(labels, start=1):
        tp = int(table[value, value])
        fn, fp = int(table[value].sum()) - tp, int(table[:, value].sum()) - tp
        nsd = hd95 = None
        if tp + fp and tp + fn:
            pair = surface.distances(ours == value, theirs == value, spacing)
            nsd, hd95 = surface.nsd(*pair, tolerance_mm), surface.hd95(*pair)
        elif tp + fp or tp + fn:
            nsd = 0.0  # a surface that is there, and none to be near it
        rest = int(table.sum()) - tp - fp - fn
        scores.append(CaseScore(case, patient, label, tp, fp, fn, rest, nsd, hd95, diagonal))
    return scores
