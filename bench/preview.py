"""What a trial keeps of each held-out case for the report: one slice, and the whole case coarsened for the viewer."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.folder import Volume
from bench.data.grid import ras_order, to_ras
from results.store import atomic_write

#: The longest side of a stored slice, and of a stored volume, in pixels and voxels.
SLICE_SIDE, VOLUME_SIDE = 256, 96
#: Grey levels of a stored volume are multiples of this: nobody sees it, and the files halve.
_GREY_STEP = 4

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """What is kept of a case. arrays: those of `Preview`, by names without the number; volume: the shared file."""

    arrays: dict[str, NDArray[Any]]
    volume_name: str
    volume: bytes


class Preview:
    """Collects cases, then writes one compressed `.npz` without pickles, and beside it what all arms share.

    Arrays: `cases` (n,) text, and for case i in RAS (left of the body at the left, front up):

    - `image_i`, `reference_i`, `prediction_i` (H, W) uint8: a slice; `aspect_i`: a pixel's height over its width in mm;
    - `labels_i` (X, Y, Z) uint8: the prediction, coarsened; `volume_i`: the name of the file that shares its grid,
      `../volumes/<name>.npz`, with `image`, `reference` (X, Y, Z) uint8 and `spacing` (3,) in mm.

    The name is a hash of the content, so that every arm of a task leaves the same file and it is stored once.
    """

    def __init__(self) -> None:
        self.cases: list[str] = []
        self.arrays: dict[str, NDArray[Any]] = {}
        self.volumes: dict[str, bytes] = {}

    def add(self, case: str, picture: Picture) -> None:
        """Keep a case's picture under the next number."""
        number = len(self.cases)
        self.arrays |= {f"{name}_{number}": array for name, array in picture.arrays.items()}
        self.arrays[f"volume_{number}"] = np.array(picture.volume_name)
        self.volumes[picture.volume_name] = picture.volume
        self.cases.append(case)

    def write(self, path: Path) -> None:
        """Write the trial's file, after the shared ones that it names."""
        for name, data in self.volumes.items():
            shared = path.parent.parent / "volumes" / f"{name}.npz"
            if not shared.exists():
                atomic_write(shared, data)
        atomic_write(path, _npz(cases=np.array(self.cases), **self.arrays))


def pictured(volume: Volume, prediction_XYZ: Bytes) -> Picture:
    """The axial slice with the most reference foreground (the middle one if there is none), and the volume."""
    image, reference, prediction = (
        to_ras(array, volume.affine) for array in (volume.image[0], volume.label, prediction_XYZ)
    )
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)[list(ras_order(volume.affine))]
    arrays = _slices(image, reference, prediction) | {"aspect": np.array(spacing[1] / spacing[0], np.float32)}
    steps = coarseness(image.shape, spacing)
    arrays["labels"] = block_centre(prediction, steps)
    shade = _grey(block_mean(image, steps), _GREY_STEP)
    return Picture(arrays, *_shared(shade, block_centre(reference, steps), spacing * steps))


def _slices(image: NDArray[Any], reference: Bytes, prediction: Bytes) -> dict[str, NDArray[Any]]:
    at, steps = chosen_slice(reference), slice_steps(image.shape)
    here = slice(at, at + 1)
    planes = {
        "image": _grey(block_mean(image[..., here], steps)),
        "reference": block_centre(reference[..., here], steps),
        "prediction": block_centre(prediction[..., here], steps),
    }
    return {name: upright(plane) for name, plane in planes.items()}


def chosen_slice(reference_XYZ: Bytes) -> int:
    """The axial slice with the most reference foreground, in RAS; the middle one if there is none."""
    areas = (reference_XYZ > 0).sum((0, 1))
    return int(areas.argmax()) if areas.any() else reference_XYZ.shape[2] // 2


def slice_steps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """How many voxels become one pixel of a stored slice, by axis, of a volume of this shape."""
    step = max(1, -(-max(shape[:2]) // SLICE_SIDE))
    return step, step, 1


def upright(plane_XY1: NDArray[Any]) -> NDArray[Any]:
    """(X, Y, 1) in RAS as a picture (H, W): front up."""
    return np.ascontiguousarray(plane_XY1[..., 0].T[::-1])


def coarseness(shape: tuple[int, ...], spacing: NDArray[np.float64]) -> tuple[int, int, int]:
    """How many voxels become one, by axis: about cubes in mm, no side above VOLUME_SIDE, no voxel invented."""
    target = max(side * mm for side, mm in zip(shape, spacing, strict=True)) / VOLUME_SIDE
    x, y, z = (max(1, round(target / mm), -(-side // VOLUME_SIDE)) for side, mm in zip(shape, spacing, strict=True))
    return int(x), int(y), int(z)


def block_mean(image_XYZ: NDArray[Any], steps: tuple[int, int, int]) -> NDArray[np.float32]:
    """The mean of each block of steps voxels, float32; the last block of a side repeats the edge where it is short."""
    short = [(0, -side % step) for side, step in zip(image_XYZ.shape, steps, strict=True)]
    image = np.pad(np.asarray(image_XYZ, np.float32), short, mode="edge") if np.any(short) else image_XYZ
    for axis, step in reversed(list(enumerate(steps))):
        if step > 1:
            parts = (*image.shape[:axis], image.shape[axis] // step, step, *image.shape[axis + 1 :])
            image = image.reshape(parts).mean(axis + 1, dtype=np.float32)
    return np.asarray(image, np.float32)


def block_centre(label_XYZ: NDArray[Any], steps: tuple[int, int, int]) -> Bytes:
    """The label in the middle of each block, uint8: on the grid of `block_mean`. What is thinner may be lost."""
    index = [
        np.minimum(np.arange(0, side, step) + step // 2, side - 1)
        for side, step in zip(label_XYZ.shape, steps, strict=True)
    ]
    return np.asarray(label_XYZ[np.ix_(*index)], np.uint8)


def _grey(image: NDArray[np.float32], step: int = 1) -> Bytes:
    """Grey levels 0–255 between the 1st and 99th percentile, rounded down to multiples of step."""
    low, high = np.percentile(image, (1, 99))
    shade = (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return np.asarray(shade // step * step, np.uint8)


def _shared(image: Bytes, reference: Bytes, spacing: NDArray[np.float64]) -> tuple[str, bytes]:
    parts: dict[str, NDArray[Any]] = {"image": image, "reference": reference, "spacing": spacing.astype(np.float32)}
    digest = hashlib.sha256(repr(image.shape).encode())
    for part in parts.values():
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16], _npz(**parts)


def _npz(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
