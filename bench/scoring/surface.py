"""Distances between two surfaces in mm, and NSD and HD95 from them.

A surface is the voxels of a mask that have a face in common with the outside, the outside of the image included; its
elements are the centres of these voxels, all of the same weight. Distances are Euclidean, from each element of one
surface to the nearest of the other, in a box around both.

- NSD, normalised surface distance at a tolerance: the share of elements of both surfaces that lie within the tolerance
  of the other (Nikolov et al. 2018, arXiv 1809.04430, which weights elements by area; here, as in MONAI's
  `compute_surface_dice`, each counts once).
- HD95: the larger of the two 95th percentiles, interpolated linearly (MONAI's `compute_hausdorff_distance` with
  percentile 95, not directed).

Both need the same distances, so they are taken once. Two masks worth scoring lie close to each other: a table of
offsets, the nearest first, finds most elements in a few looks; a k-d tree finds the others, or, where they are so
many that a tree would take longer (a prediction that is noise), a distance transform of the box. All three are exact.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from bench.scoring.counts import foreground_box, united

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Spacing = tuple[float, float, float]

#: At most so many looks, the last of them in a round whose looks found this share of what was left, or more: else a
#: tree or a transform finds the rest sooner.
_LOOKS, _ROUND, _WORTH = 512, 32, 0.04
#: A distance transform takes about as long for this many voxels as a tree for one element.
_VOXELS_AN_ELEMENT = 12
#: In mm: a distance that is the tolerance but for rounding is within it.
_ROUNDING = 1e-6


def distances(prediction_XYZ: Mask, reference_XYZ: Mask, spacing_mm: Spacing) -> tuple[Floats, Floats]:
    """From each element of the prediction's surface to the reference's, and back; in no order.

    Two masks of one shape, neither of them empty; spacing in mm along the array's axes.
    """
    box = united(foreground_box(prediction_XYZ), foreground_box(reference_XYZ))
    assert box is not None, "distances of two empty masks"
    offsets, lengths = _offsets(spacing_mm)
    margins = np.abs(offsets).max(axis=0)  # so that no look leaves the array
    ours, theirs = _surface(prediction_XYZ[box], margins), _surface(reference_XYZ[box], margins)
    there = _nearest(ours, theirs, offsets, lengths, spacing_mm)
    return there, _nearest(theirs, ours, offsets, lengths, spacing_mm)


def nsd(there: Floats, back: Floats, tolerance_mm: float) -> float:
    """The share of elements within the tolerance; the arguments are what `distances` gives."""
    within = sum(int((side <= tolerance_mm + _ROUNDING).sum()) for side in (there, back))
    return within / (there.size + back.size)


def hd95(there: Floats, back: Floats) -> float:
    """In mm; the arguments are what `distances` gives."""
    return max(float(np.quantile(side, 0.95)) for side in (there, back))


def _surface(mask_XYZ: Mask, margins: NDArray[np.intp]) -> Mask:
    """The surface of a mask, with margins around it on every side."""
    inside = np.pad(mask_XYZ, 1)
    core = inside[1:-1, 1:-1, 1:-1]
    deep = core.copy()
    for axis in range(3):
        for start in (0, 2):
            at = [slice(1, -1)] * 3
            at[axis] = slice(start, start + core.shape[axis])
            deep &= inside[tuple(at)]
    return np.pad(core & ~deep, [(margin, margin) for margin in margins])


@functools.lru_cache(maxsize=64)
def _offsets(spacing_mm: Spacing) -> tuple[NDArray[np.intp], list[float]]:
    """The nearest grid offsets (N, 3) and their lengths in mm, ascending: with each, all shorter ones are there."""
    reach = (3 * _LOOKS * math.prod(spacing_mm) / (4 * math.pi)) ** (1 / 3)
    axes = [np.arange(-int(reach / step), int(reach / step) + 1) for step in spacing_mm]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(grid * np.array(spacing_mm), axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= reach][:_LOOKS]
    return grid[order], lengths[order].tolist()


def _nearest(
    source: Mask, target: Mask, offsets: NDArray[np.intp], lengths: list[float], spacing_mm: Spacing
) -> Floats:
    """From each voxel of source to the nearest of target; both padded by the largest offset of each axis."""
    strides = np.array([target.shape[1] * target.shape[2], target.shape[2], 1])
    flat, left = target.reshape(-1), np.flatnonzero(source)
    found, counts, before = [], [], left.size
    for number, (step, length) in enumerate(zip((offsets @ strides).tolist(), lengths, strict=True), start=1):
        missed = left[~flat.take(left + step)]
        found.append(length)
        counts.append(left.size - missed.size)
        left = missed
        if number % _ROUND == 0:
            if before - left.size < _WORTH * before:
                break
            before = left.size
    near = np.repeat(np.array(found), counts)
    return np.concatenate([near, _far(left, target, np.array(spacing_mm))]) if left.size else near


def _far(places: NDArray[np.intp], target: Mask, spacing: Floats) -> Floats:
    """From each of some voxels, flat indices, to the nearest of target."""
    at = np.stack(np.unravel_index(places, target.shape))
    if places.size * _VOXELS_AN_ELEMENT > target.size:
        feature = distance_transform_edt(~target, spacing, return_distances=False, return_indices=True)
        steps = feature.reshape(3, -1)[:, places] - at
        lengths: Floats = np.linalg.norm(steps * spacing[:, None], axis=0)
    else:
        points = np.stack(np.nonzero(target), axis=1) * spacing
        lengths = KDTree(points, leafsize=32, balanced_tree=False).query(at.T * spacing)[0]
    return lengths
