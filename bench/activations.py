"""Where a trained segmenter's tokens are strong: heat maps over the slice that the preview shows; beside them its
attention's entropy and its block's amplification.

One compressed `.npz` a trial without pickles, `<run>/activations/<key>.npz`. Arrays: `cases` (n,) text, and for case i:

- `before_i`, `block_i`, `encoder_i` (H, W) float32: the energy of the tokens (mean of |x| over channels) that enter the
  block, that leave it with its residual, and that leave the last encoder block. The baseline has `encoder_i` alone; a
  block at two places has `before2_i` and `block2_i` too. After the encoder, `before_i` is `encoder_i`.
- `entropy_i` (encoder blocks,) float32: mean entropy of attention over heads and tokens, as a share of the largest
  possible; `amplification_i` (places,) float32: |block(x)| / |x|, empty where there is no block.

A map lies pixel by pixel on `image_i` of `previews/<key>.npz` where the case has the same name: shape, slice, left and
right. Tokens are seen in the windows of the prediction, without mirroring; a token's energy stands for the voxels of
its patch, and windows are blended with the same Gaussian. Entropy and amplification are means over the windows. Values
are rounded to a 255th of the map's largest, so that files stay small. `mvl.observe` says how they are defined.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.data.folder import read_case
from bench.data.grid import Grid, ras_order, resample_linear, to_ras
from bench.data.volumes import PreparedCase
from bench.preview import block_mean, chosen_slice, slice_steps, upright
from bench.windows import slabs
from mvl.config import SegmenterConfig, Size3
from mvl.observe import can_observe, observed
from results.store import atomic_write

Floats = NDArray[np.float32]


@dataclass
class Look:
    """What was seen of one image: maps stage -> (X, Y, Z) on its grid, entropy (blocks,), amplification (places,)."""

    maps: dict[str, Floats]
    entropy: Floats
    amplification: Floats


@torch.no_grad()
def look(model: nn.Module, image_CXYZ: Floats, window: Size3, overlap: float) -> Look:
    """One prepared image through a Segmenter, window by window, each of them looked at."""
    where, patch = next(model.parameters()).device, cast(SegmenterConfig, model.config).patch
    stages: list[str] = []
    numbers: list[tuple[list[float], list[float]]] = []
    model.eval()
    with observed(model) as seen:

        def energies(image_BCXYZ: Tensor) -> Tensor:
            """(B, 1 + stages, X, Y, Z), the first where `slabs` has background; what else was seen is noted."""
            model(image_BCXYZ.to(where))
            stages[:] = seen.energy
            numbers.append((list(seen.entropy), list(seen.amplification)))
            maps = [_to_voxels(energy, patch, window) for energy in seen.energy.values()]
            return torch.stack([torch.zeros_like(maps[0]), *maps], dim=1)

        parts = [slab[1:].cpu().numpy().copy() for slab in slabs(energies, image_CXYZ, window, overlap)]
        blended = np.concatenate(parts, axis=1)
    entropy, amplification = (np.mean(values, axis=0).astype(np.float32) for values in zip(*numbers, strict=True))
    return Look(dict(zip(stages, blended, strict=True)), entropy, amplification)


def _to_voxels(energy_BUVW: Tensor, patch: Size3, window: Size3) -> Tensor:
    """Each token's value over the voxels of its patch, (B, X, Y, Z); what the model had padded is cut off."""
    for axis, side in enumerate(patch, start=1):
        energy_BUVW = energy_BUVW.repeat_interleave(side, axis)
    x, y, z = window
    return energy_BUVW[:, :x, :y, :z]


def keep(path: Path, model: nn.Module, cases: Sequence[PreparedCase], overlap: float) -> bool:
    """Write the file of a trial; False, and no file, for no case and for a model that is not looked into."""
    if not cases or not can_observe(model):
        return False
    arrays: dict[str, NDArray[Any]] = {"cases": np.array([case.id for case in cases])}
    for number, case in enumerate(cases):
        found = look(model, case.image(), cast(SegmenterConfig, model.config).image, overlap)
        label = read_case(case.case).label
        for stage, energy_XYZ in found.maps.items():
            arrays[f"{stage}_{number}"] = _rounded(on_slice(energy_XYZ, case.grid, label))
        arrays[f"entropy_{number}"] = found.entropy
        arrays[f"amplification_{number}"] = found.amplification
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    atomic_write(path, buffer.getvalue())
    return True


def on_slice(values_XYZ: Floats, grid: Grid, label_XYZ: NDArray[Any]) -> Floats:
    """Values on the prepared grid, (H, W) on the slice that the preview shows of a case with this native label.

    0 outside the box of the image that was kept.
    """
    affine = np.array(grid.affine)
    at = chosen_slice(to_ras(label_XYZ, affine))
    (left, right), (back, front), (low, high) = _box_in_ras(grid)
    width, height, _ = (grid.native_shape[axis] for axis in ras_order(affine))
    plane = np.zeros((width, height, 1), np.float32)
    if low <= at < high:
        here = int((at - low + 0.5) * values_XYZ.shape[2] / (high - low))
        inside = resample_linear(values_XYZ[:, :, here : here + 1], (right - left, front - back, 1))
        plane[left:right, back:front] = inside
    return upright(block_mean(plane, slice_steps(plane.shape)))


def _box_in_ras(grid: Grid) -> list[tuple[int, int]]:
    kept = np.zeros(grid.native_shape, dtype=bool)
    kept[grid.inside] = True
    turned, box = to_ras(kept, np.array(grid.affine)), []
    for axis in range(3):
        line = turned.any(tuple(other for other in range(3) if other != axis))
        first = int(line.argmax())
        box.append((first, first + int(line.sum())))
    return box


def _rounded(values: Floats) -> Floats:
    step = max(float(np.abs(values).max()), 1e-12) / 255
    return np.asarray(np.round(values / step) * step, np.float32)
