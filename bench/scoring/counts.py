"""One pass over the voxels: how often each reference value met each predicted one.

Everything that counts follows from that table. Outside the box of both foregrounds all voxels are background twice, so
only the box is read voxel by voxel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Box = tuple[slice, slice, slice]

#: Up to this many values a pair of them fits a byte, and two voxels are counted at once.
_PAIRS_IN_A_BYTE = 16


def foreground_box(volume_XYZ: NDArray[np.uint8] | NDArray[np.bool_]) -> Box | None:
    """The smallest box that holds every voxel above 0; None where there is none."""
    if volume_XYZ.flags.f_contiguous and not volume_XYZ.flags.c_contiguous:
        turned = foreground_box(volume_XYZ.T)  # NIfTI files are in this order; memory is read as it lies
        return turned and turned[::-1]
    plane_YZ = np.bitwise_or.reduce(volume_XYZ, axis=0)
    y, z = _extent(np.any(plane_YZ, axis=1)), _extent(np.any(plane_YZ, axis=0))
    if y is None or z is None:
        return None
    x = _extent(np.any(volume_XYZ[:, y, z], axis=(1, 2)))
    assert x is not None, "a plane with foreground has a row with foreground"
    return x, y, z


def united(*boxes: Box | None) -> Box | None:
    """The smallest box around the boxes that are there."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    x, y, z = (slice(min(s.start for s in side), max(s.stop for s in side)) for side in zip(*there, strict=True))
    return x, y, z


def confusion(prediction_XYZ: Labels, reference_XYZ: Labels, classes: int) -> NDArray[np.int64]:
    """Voxels by reference value and predicted value, (classes, classes) int64; both volumes of one shape.

    ValueError where a value is `classes` or above.
    """
    box = united(foreground_box(prediction_XYZ), foreground_box(reference_XYZ))
    if box is None:
        table = np.zeros((classes, classes), np.int64)
    else:
        table = _pairs(np.ascontiguousarray(prediction_XYZ[box]), np.ascontiguousarray(reference_XYZ[box]), classes)
    table[0, 0] += reference_XYZ.size - table.sum()
    return table


def _pairs(prediction: Labels, reference: Labels, classes: int) -> NDArray[np.int64]:
    for name, volume in (("prediction", prediction), ("reference", reference)):
        if (top := int(volume.max())) >= classes:
            raise ValueError(f"{name} has the value {top}; with {classes - 1} labels the largest is {classes - 1}")
    if classes <= _PAIRS_IN_A_BYTE:
        joint = reference * np.uint8(classes)
        joint += prediction
        counts = _histogram(joint.reshape(-1))
    else:
        wide = reference.astype(np.uint16) * np.uint16(classes)
        wide += prediction
        counts = np.bincount(wide.reshape(-1), minlength=classes * classes)
    return counts[: classes * classes].reshape(classes, classes).astype(np.int64)


def _histogram(values: Labels) -> NDArray[np.int64]:
    """(256,): how often each byte occurs. Bytes are counted in pairs, which takes half as many steps."""
    even = values[: values.size // 2 * 2]
    counts = np.bincount(even.view(np.uint16), minlength=1 << 16).reshape(256, 256)
    both: NDArray[np.int64] = counts.sum(0) + counts.sum(1)
    both[values[even.size :]] += 1
    return both


def _extent(line: NDArray[np.bool_]) -> slice | None:
    """From the first to the last place that is true."""
    found = np.flatnonzero(line)
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else None
