"""The resolutions between tokens and voxels, from the settings alone. No torch: what a plan counts hangs on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mvl.config import SegmenterConfig, Size3

_ONE: Size3 = (1, 1, 1)


@dataclass(frozen=True)
class Ladder:
    """The resolutions between tokens and voxels, coarse to fine.

    steps: by how much each is finer than the one before it, the first than the token grid. widths: the channels of
    each. cell: the voxels of the image that are one position of the finest, more than one where the last step is left
    to the decoder's head.
    """

    steps: tuple[Size3, ...]
    widths: tuple[int, ...]
    cell: Size3

    @classmethod
    def of(cls, config: SegmenterConfig) -> Ladder:
        """config.decoder_width channels at full resolution, twice as many at each coarser one, never more than D."""
        steps = upsampling_steps(config.patch)
        cell = _ONE if config.decoder == "skip" else steps.pop()
        finest = config.decoder_width * (1 if config.decoder == "skip" else 2)
        widths = [min(config.width, finest << level) for level in reversed(range(len(steps)))]
        return cls(tuple(steps), tuple(widths), cell)

    @property
    def voxels(self) -> int:
        """Voxels of a cell."""
        return math.prod(self.cell)


def upsampling_steps(patch: Size3) -> list[Size3]:
    """How the patch is undone, coarse to fine: halving each axis that can be halved, then what is left over.

    >>> upsampling_steps((8, 8, 2))
    [(2, 2, 2), (2, 2, 1), (2, 2, 1)]
    """
    left, steps = list(patch), list[Size3]()
    while max(left) > 1:
        x, y, z = (2 if side % 2 == 0 else side for side in left)
        left = [left[0] // x, left[1] // y, left[2] // z]
        steps.append((x, y, z))
    return steps or [_ONE]
