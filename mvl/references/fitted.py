"""What makes a network that wants sides of a certain size take any."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mvl.config import SegmenterConfig, Size3
from mvl.patches import continued


class Fitted(nn.Module):
    """A network between padding and cutting back. (B, C, X, Y, Z) to logits (B, K, X, Y, Z).

    step: what each side must be a multiple of. least: no side is shorter than this, nor than the training crop: norms
    over the deepest features need several voxels. The far edge is repeated to fill up, as the segmenter does it.
    """

    def __init__(self, net: nn.Module, config: SegmenterConfig, step: Size3, least: Size3 = (1, 1, 1)) -> None:
        super().__init__()
        self.net, self.config, self.step = net, config, step
        self.least = fit(config.image, step, least)

    def forward(self, image_BCXYZ: Tensor) -> Tensor:
        x, y, z = image_BCXYZ.shape[2:]
        return self.net(continued(image_BCXYZ, fit((x, y, z), self.step, self.least)))[..., :x, :y, :z]


def fit(size: Size3, step: Size3, least: Size3) -> Size3:
    """The smallest multiple of step, side by side, that is neither below size nor below least."""
    x, y, z = (math.ceil(max(side, low) / by) * by for side, by, low in zip(size, step, least, strict=True))
    return x, y, z
