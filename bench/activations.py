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
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.data.folder import read_case
from bench.data.grid import ras_order, resample_linear, to_ras
from bench.data.volumes import PreparedCase
from bench.evaluate import corners, gaussian
from bench.preview import block_mean, chosen_slice, slice_steps, upright
from mvl.config import Size3
from mvl.observe import Seen, can_observe, observed
from results.store import atomic_write

Floats = NDArray[np.float32]


@dataclass
class Look:
    """What was seen of one image: maps stage -> (X, Y, Z) on its grid, entropy (blocks,), amplification (places,)."""

    maps: dict[str, Floats]
    entropy: Floats
    amplification: Floats


@dataclass
class _Blend:
    """Windows added up."""

    shape: tuple[int, ...]
    maps: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, seen: Seen, at: tuple[slice, ...], weight_XYZ: Tensor, patch: Size3) -> None:
        for stage, energy_BUVW in seen.energy.items():
            voxels = energy_BUVW[0].cpu()
            for axis, side in enumerate(patch):
                voxels = voxels.repeat_interleave(side, axis)
            x, y, z = weight_XYZ.shape
            total = self.maps.setdefault(stage, torch.zeros(self.shape))
            total[at] += voxels[:x, :y, :z] * weight_XYZ
        self.numbers["entropy"].append(list(seen.entropy))
        self.numbers["amplification"].append(list(seen.amplification))

    def mean(self, name: str) -> Floats:
        return np.mean(self.numbers[name], axis=0).astype(np.float32)


@torch.no_grad()
def look(model: nn.Module, image_CXYZ: NDArray[np.float32], window: Size3, overlap: float) -> Look:
    """One prepared image through a Segmenter, window by window, each of them looked at."""
    where, patch = next(model.parameters()).device, model.config.patch  # type: ignore[union-attr]
    size = image_CXYZ.shape[1:]
    short = [max(0, width - side) for side, width in zip(size, window, strict=True)]
    padded = np.pad(np.asarray(image_CXYZ, np.float32), [(0, 0), *((0, missing) for missing in short)])
    blend, weight_XYZ, norm = _Blend(padded.shape[1:]), gaussian(window), torch.zeros(padded.shape[1:])
    model.eval()
    with observed(model) as seen:
        for corner in corners(padded.shape[1:], window, overlap):
            at = tuple(slice(first, first + side) for first, side in zip(corner, window, strict=True))
            model(torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *at)]))[None].to(where))
            blend.add(seen, at, weight_XYZ, patch)  # type: ignore[arg-type]
            norm[at] += weight_XYZ
    x, y, z = size
    maps = {stage: (total / norm)[:x, :y, :z].numpy() for stage, total in blend.maps.items()}
    return Look(maps, blend.mean("entropy"), blend.mean("amplification"))


def keep(path: Path, model: nn.Module, cases: Sequence[PreparedCase], overlap: float) -> bool:
    """Write the file of a trial; False, and no file, for no case and for a model that is not looked into."""
    if not cases or not can_observe(model):
        return False
    arrays: dict[str, NDArray[Any]] = {"cases": np.array([case.id for case in cases])}
    for number, case in enumerate(cases):
        found = look(model, case.image(), model.config.image, overlap)  # type: ignore[union-attr, arg-type]
        label = read_case(case.case).label
        for stage, energy_XYZ in found.maps.items():
            arrays[f"{stage}_{number}"] = _rounded(on_slice(energy_XYZ, case, label))
        arrays[f"entropy_{number}"] = found.entropy
        arrays[f"amplification_{number}"] = found.amplification
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    atomic_write(path, buffer.getvalue())
    return True


def on_slice(values_XYZ: Floats, case: PreparedCase, label_XYZ: NDArray[Any]) -> Floats:
    """Values on the prepared grid, (H, W) on the slice that the preview shows of a case with this native label."""
    affine = np.array(case.affine)
    at = chosen_slice(to_ras(label_XYZ, affine))
    width, height, depth = (case.native_shape[axis] for axis in ras_order(affine))
    here = int((at + 0.5) * values_XYZ.shape[2] / depth)
    plane = resample_linear(values_XYZ[:, :, here : here + 1], (width, height, 1))
    return upright(block_mean(plane, slice_steps(plane.shape)))


def _rounded(values: Floats) -> Floats:
    step = max(float(np.abs(values).max()), 1e-12) / 255
    return np.asarray(np.round(values / step) * step, np.float32)
