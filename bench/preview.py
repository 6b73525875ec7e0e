"""One slice of each held-out case with its reference and prediction: what the report's pictures are drawn from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.folder import Volume
from bench.data.grid import ras_order, to_ras
from results.store import atomic_write


class Preview:
    """Collects slices, then writes one compressed `.npz` without pickles.

    Arrays: `cases` (n,) text, and for case i `image_i`, `reference_i`, `prediction_i` (H, W) uint8, in RAS: left of the
    body at the left, front up, and `aspect_i`, the height of a pixel over its width in mm.
    """

    def __init__(self) -> None:
        self.cases: list[str] = []
        self.arrays: dict[str, NDArray[Any]] = {}

    def add(self, case: str, volume: Volume, prediction_XYZ: NDArray[np.uint8]) -> None:
        """Keep the axial slice with the most reference foreground (the middle one if there is none)."""
        image, reference, prediction = (
            to_ras(array, volume.affine) for array in (volume.image[0], volume.label, prediction_XYZ)
        )
        areas = (reference > 0).sum((0, 1))
        at = int(areas.argmax()) if areas.any() else reference.shape[2] // 2
        number = len(self.cases)
        low, high = np.percentile(image[..., at], (1, 99))
        shade = np.clip((image[..., at] - low) / max(high - low, 1e-6), 0, 1) * 255
        spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)[list(ras_order(volume.affine))]
        for name, plane in (
            ("image", shade),
            ("reference", reference[..., at]),
            ("prediction", prediction[..., at]),
        ):
            self.arrays[f"{name}_{number}"] = np.ascontiguousarray(plane.T[::-1]).astype(np.uint8)
        self.arrays[f"aspect_{number}"] = np.array(spacing[1] / spacing[0], np.float32)
        self.cases.append(case)

    def write(self, path: Path) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, cases=np.array(self.cases), **self.arrays)
        atomic_write(path, buffer.getvalue())
