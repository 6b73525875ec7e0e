"""What makes a network that wants sides of a certain size take any."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from mvl.config import SegmenterConfig, Size3
from mvl.observe import Parts
from mvl.patches import continued


class Fitted(nn.Module):
    """A network between padding and cutting back. (B, C, X, Y, Z) to logits (B, K, X, Y, Z).

    step: what each side must be a multiple of. least: no side is shorter than this, nor than the training crop: norms
    over the deepest features need several voxels. The far edge is repeated to fill up, as the segmenter does it.
    end: the part of the net that its encoder ends with, a value of which stands for a step of voxels; qkv: of its
    blocks' attention over all tokens, with config.heads.
    """

    def __init__(
        self,
        net: nn.Module,
        config: SegmenterConfig,
        step: Size3,
        end: nn.Module,
        qkv: Sequence[nn.Module] = (),
        least: Size3 = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.net, self.config, self.step = net, config, step
        self.least = fit(config.image, step, least)
        # Within other objects, or torch would count these parts, which are the net's, twice.
        self._parts = Parts(net, step, end, qkv, config.heads)

    def forward(self, image_BCXYZ: Tensor) -> Tensor:
        x, y, z = image_BCXYZ.shape[2:]
        return self.net(continued(image_BCXYZ, fit((x, y, z), self.step, self.least)))[..., :x, :y, :z]

    def parts(self) -> Parts:
        """What `mvl.observe` looks at."""
        return self._parts


def fit(size: Size3, step: Size3, least: Size3) -> Size3:
    """The smallest multiple of step, side by side, that is neither below size nor below least."""
    x, y, z = (math.ceil(max(side, low) / by) * by for side, by, low in zip(size, step, least, strict=True))
    return x, y, z
