"""Where a trained model's tokens or deepest features are strong: heat maps over the slice that the preview shows;
beside them its attention's entropy and its block's amplification, where it has them.

One compressed `.npz` a trial without pickles, `<run>/activations/<key>.npz`. Arrays: `cases` (n,) text, and for case i:

- `before_i`, `block_i`, `encoder_i` (H, W) float32: the energy (mean of |x| over channels) of what enters the block,
  leaves it with its residual, and leaves the encoder's end. The baseline and reference models have `encoder_i` alone; a
  block at two places has `before2_i` and `block2_i` too. After the encoder, `before_i` is `encoder_i`.
- `entropy_i` (encoder blocks,) float32: mean entropy of attention over heads and tokens, as a share of the largest
  possible; empty where no attention is over all tokens, so in reference models but for UNETR.
- `amplification_i` (places,) float32: |block(x)| / |x|, empty where there is no block.

A map lies pixel by pixel on `image_i` of `previews/<key>.npz` where the case has the same name: shape, slice, left and
right. What is seen are the forward passes of the prediction itself, none is made for it; mirrored copies are left out.
A token's energy stands for the voxels of its patch, that of deepest features for the voxels of a step in their grid;
what a model pads is cut off, and windows are blended with the same Gaussian. Entropy and amplification are means over
the windows. Values are rounded to a 255th of the map's largest, so that files stay small. `mvl.observe` says how they
are defined.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.grid import Grid, ras_order, resample_linear, to_ras
from bench.evaluate import Inference, mirrored
from bench.preview import block_mean, chosen_slice, slice_steps, upright
from bench.windows import slabs
from mvl.config import Size3
from mvl.observe import Seen
from results.store import atomic_write

Floats = NDArray[np.float32]


@dataclass
class Look:
    """What was seen of one image: maps stage -> (X, Y, Z) on its grid, entropy (blocks,), amplification (places,)."""

    maps: dict[str, Floats]
    entropy: Floats
    amplification: Floats

    def arrays(self, grid: Grid, label_XYZ: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """What is kept of the case with this grid and native label, by names without the number."""
        slices = {stage: _rounded(on_slice(map_XYZ, grid, label_XYZ)) for stage, map_XYZ in self.maps.items()}
        return slices | {"entropy": self.entropy, "amplification": self.amplification}


def blended(passes: Sequence[Seen], image_CXYZ: Floats, how: Inference) -> Look:
    """What the forward passes of one image's prediction showed; a mirrored copy's passes are left out."""
    straight = list(passes[:: len(mirrored(how.mirror))])
    each = iter(straight)

    def energies(image_BCXYZ: Tensor) -> Tensor:
        """(B, 1 + stages, X, Y, Z), the first where `slabs` has background."""
        seen = next(each)
        maps = [_to_voxels(energy, seen.cell, how.window) for energy in seen.energy.values()]
        return torch.stack([torch.zeros_like(maps[0]), *maps], dim=1)

    windows = slabs(energies, image_CXYZ, how.window, how.overlap, how.batch)
    maps = np.concatenate([slab[1:].cpu().numpy() for slab in windows], axis=1)
    numbers = ([seen.entropy for seen in straight], [seen.amplification for seen in straight])
    entropy, amplification = (np.mean(values, axis=0).astype(np.float32) for values in numbers)
    return Look(dict(zip(straight[0].energy, maps, strict=True)), entropy, amplification)


def _to_voxels(energy_BUVW: Tensor, cell: Size3, window: Size3) -> Tensor:
    """Each value over the voxels of its cell, (B, X, Y, Z); what the model had padded is cut off."""
    for axis, side in enumerate(cell, start=1):
        energy_BUVW = energy_BUVW.repeat_interleave(side, axis)
    x, y, z = window
    return energy_BUVW[:, :x, :y, :z]


def write(path: Path, of_case: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """Write the file of a trial; no file where no case was looked at."""
    if not of_case:
        return
    arrays = {f"{name}_{number}": array for number, case in enumerate(of_case.values()) for name, array in case.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, cases=np.array(list(of_case)), **arrays)
    atomic_write(path, buffer.getvalue())


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
    """Energies as multiples of a 255th of the largest; what is seen, however weak, is not 0, which is unseen."""
    step = max(float(values.max()), 1e-12) / 255
    return np.asarray(np.where(values > 0, np.maximum(np.round(values / step), 1), 0) * step, np.float32)
