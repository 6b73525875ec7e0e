"""Changes of a training crop: intensities, sharpness, and a turn with a zoom. Plain NumPy, in place where it can be.

MONAI has all of these. On a crop of 96³ voxels and one core its transforms took, in ms, against ours: rotation with
scaling of image and label 143 against 17 to 34, gamma 13 against 9, blur 33 against 6, low resolution 11 against 5,
noise 36 against 13. Training on cores has no time for that, hence our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.data.grid import Shape3, resample_linear, resample_nearest

#: Intensity augmentation of a prepared image: scale as in nnU-Net; shift and noise in standard deviations. The shift is
#: wide since scanners, sequences and contrast phases move whole organs by that much.
_SCALE, _SHIFT, _NOISE = 0.25, 0.5, 0.1
#: `full`: how often each change is made, as in nnU-Net but for the turn, of which one axis at a time is enough.
_GAMMA_SHARE, _BLUR_SHARE, _COARSE_SHARE, TURN_SHARE = 0.3, 0.2, 0.25, 0.3
_GAMMA, _BLUR, _COARSE = (0.7, 1.5), (0.5, 1.0), (0.5, 1.0)
_ANGLE, _ZOOM = np.radians(15), (0.8, 1.25)
#: Where a voxel is this many times as thick as it is wide only its plane is turned.
_FLAT = 3.0

#: A copy of a box of the last three axes, from its first voxel and its size; its edge where it leaves the array.
Cut = Callable[[Sequence[int], Shape3], np.ndarray]


def vary(image_CXYZ: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale and shift each channel, and add noise to one crop in four."""
    scale, shift = rng.uniform(-1, 1, (2, len(image_CXYZ), 1, 1, 1)).astype(np.float32)
    image_CXYZ *= 1 + _SCALE * scale
    image_CXYZ += _SHIFT * shift
    if rng.random() < 0.25:
        image_CXYZ += np.float32(rng.uniform(0, _NOISE)) * rng.standard_normal(image_CXYZ.shape, dtype=np.float32)
    return image_CXYZ


def blur_and_bend(image_CXYZ: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some crops blurred, some at a lower resolution, some with another gamma: what `full` adds to intensities."""
    if rng.random() < _BLUR_SHARE:
        blur(image_CXYZ, rng.uniform(*_BLUR))
    if rng.random() < _COARSE_SHARE:
        coarse(image_CXYZ, rng.uniform(*_COARSE))
    if rng.random() < _GAMMA_SHARE:
        gamma(image_CXYZ, rng.uniform(*_GAMMA))
    return image_CXYZ


def gamma(image_CXYZ: np.ndarray, exponent: float) -> np.ndarray:
    """Each channel's range to a power, in place; its range, mean and deviation stay what they were, as in nnU-Net."""
    for channel in image_CXYZ:
        low, high = channel.min(), channel.max()
        if high <= low:
            continue
        mean, deviation = channel.mean(), channel.std()
        channel -= low
        channel /= high - low
        np.power(channel, np.float32(exponent), out=channel)
        channel -= channel.mean()
        channel *= deviation / max(channel.std(), np.float32(1e-6))
        channel += mean
    return image_CXYZ


def blur(image_CXYZ: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian of sigma voxels (up to about 1: it is cut at two voxels), in place; edge voxels repeated outwards."""
    weight = np.exp(-0.5 * (np.arange(3) / sigma) ** 2)
    centre, near, far = (weight / (weight[0] + 2 * weight[1:].sum())).astype(np.float32)
    for axis in (1, 2, 3):
        wide = [(2, 2) if a == axis else (0, 0) for a in range(4)]
        padded = np.moveaxis(np.pad(image_CXYZ, wide, mode="edge"), axis, 0)
        out = np.moveaxis(image_CXYZ, axis, 0)
        part = padded[1:-3] + padded[3:-1]
        part *= near
        np.multiply(padded[2:-2], centre, out=out)
        out += part
        np.add(padded[:-4], padded[4:], out=part)
        part *= far
        out += part
    return image_CXYZ


def coarse(image_CXYZ: np.ndarray, factor: float) -> np.ndarray:
    """As if taken with `factor` times as many voxels a side, in place: nearest ones kept, the others interpolated."""
    for channel in image_CXYZ:
        few = [max(1, round(side * factor)) for side in channel.shape]
        channel[:] = resample_linear(resample_nearest(channel, few), channel.shape)
    return image_CXYZ


@dataclass(frozen=True)
class Turn:
    """A turn by angle (radians) about one axis, with a zoom, about a voxel that stays where it is."""

    axis: int
    angle: float
    zoom: float

    @classmethod
    def draw(cls, rng: np.random.Generator, spacing: Sequence[float]) -> Turn:
        """About any axis, or where voxels are flat only within their plane."""
        axis = int(rng.integers(3))
        flat = max(spacing) > _FLAT * sorted(spacing)[1]
        axis = int(np.argmax(spacing)) if flat else axis
        return cls(axis, float(rng.uniform(-_ANGLE, _ANGLE)), float(rng.uniform(*_ZOOM)))

    def cut(
        self,
        image: Cut,
        label: Cut,
        corner: Sequence[int],
        crop: Shape3,
        pivot: Sequence[float],
        spacing: Sequence[float],
    ) -> tuple[np.ndarray, np.ndarray]:
        """The crop (C, X, Y, Z) and its label at `corner`, of the volume turned about pivot.

        It is cut from a larger box, so that its corners hold what is there. Image linear, label nearest; the angle is
        one in mm.
        """
        first, second = (axis for axis in range(3) if axis != self.axis)
        away = [np.arange(corner[a], corner[a] + crop[a]) - pivot[a] for a in range(3)]
        a, b = away[first][:, None] * spacing[first], away[second][None, :] * spacing[second]
        cos, sin = np.cos(self.angle) / self.zoom, np.sin(self.angle) / self.zoom
        at: list[np.ndarray] = [np.empty(0)] * 3
        at[first] = pivot[first] + (cos * a - sin * b).ravel() / spacing[first]
        at[second] = pivot[second] + (sin * a + cos * b).ravel() / spacing[second]
        at[self.axis] = pivot[self.axis] + away[self.axis] / self.zoom
        low = [int(np.floor(where.min())) for where in at]
        size = tuple(int(np.floor(where.max())) + 2 - start for where, start in zip(at, low, strict=True))
        order = (first, second, self.axis)
        places = [at[axis] - low[axis] for axis in order]
        shape = tuple(crop[axis] for axis in order)
        turned = _linear(_last(image(low, size), self.axis), places)  # type: ignore[arg-type]
        nearest = _nearest(_last(label(low, size)[None], self.axis), places)  # type: ignore[arg-type]
        return (
            np.ascontiguousarray(_back(turned.reshape(-1, *shape), self.axis)),
            np.ascontiguousarray(_back(nearest.reshape(-1, *shape), self.axis)[0]),
        )


def _last(box_CXYZ: np.ndarray, axis: int) -> np.ndarray:
    """The turn's axis last: whatever is turned then comes in rows of neighbours."""
    return np.ascontiguousarray(np.moveaxis(box_CXYZ, axis + 1, 3))


def _back(crop_CABR: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(crop_CABR, 3, axis + 1)


def _linear(box_CABR: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    channels, _, width, depth = box_CABR.shape
    rows = box_CABR.reshape(channels, -1, depth)
    a, b = (place.astype(int) for place in places[:2])
    part_a, part_b = ((place - whole).astype(np.float32) for place, whole in zip(places[:2], (a, b), strict=True))
    out = np.zeros((channels, len(a), depth), dtype=np.float32)
    for step_a, step_b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (part_a if step_a else 1 - part_a) * (part_b if step_b else 1 - part_b)
        taken = rows.take((a + step_a) * width + b + step_b, axis=1)
        taken *= weight[:, None]
        out += taken
    low = places[2].astype(int)
    part = (places[2] - low).astype(np.float32)
    below, above = out.take(low, axis=2), out.take(low + 1, axis=2)
    above -= below
    above *= part
    below += above
    return below


def _nearest(box_CABR: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    channels, _, width, depth = box_CABR.shape
    a, b, r = (np.floor(place + 0.5).astype(int) for place in places)
    return box_CABR.reshape(channels, -1, depth).take(a * width + b, axis=1).take(r, axis=2)
