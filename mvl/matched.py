"""Controls of capacity: as many trainable parameters in the block's place, and nothing pre-trained.

A frozen block comes with trainable mappers. Whether these alone explain a gain is asked with a plain MLP and with
further encoder blocks of the same size. LM4VisualEncoding (arXiv 2310.12973) found most of its gain in such an MLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.adapter import BlockAdapter
from mvl.config import SegmenterConfig, Size3
from mvl.vit import EncoderBlock

#: How far the number of trainable parameters may be from the adapter's, as a share of it.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Matched:
    """kind `mlp` or `depth`, of the size of the adapter around a frozen block that is `width` wide."""

    kind: str
    width: int

    def build(self, config: SegmenterConfig) -> nn.Module:
        """The module: (B, N, D) and the grid to (B, N, D). ValueError where no size comes within TOLERANCE."""
        wanted = adapter_parameters(config, self.width)
        module = {"mlp": MatchedMLP, "depth": MatchedDepth}[self.kind](config, wanted)
        found = trainable_parameters(module)
        if abs(found - wanted) > TOLERANCE * wanted:
            raise ValueError(
                f"--controls {self.kind}: the arm trains {wanted:,} parameters around its block, and the nearest "
                f"{self.kind} of width {config.width} has {found:,}; leave out {self.kind}, or use a larger "
                "model.mapper_lora (0 trains the mappers whole)"
            )
        return module


def trainable_parameters(module: nn.Module) -> int:
    """The number of parameters that take a gradient."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def adapter_parameters(config: SegmenterConfig, width: int) -> int:
    """Trainable parameters of the adapter around a frozen block of this width, counted on the module itself."""
    with torch.device("meta"):
        block = nn.Identity()
        block.width = width  # type: ignore[assignment]
        return trainable_parameters(BlockAdapter(block, config))


class MatchedMLP(nn.Module):
    """Norm, linear map, GELU, linear map; its hidden width is what brings it to `wanted` trainable parameters."""

    def __init__(self, config: SegmenterConfig, wanted: int) -> None:
        super().__init__()
        width = config.width
        self.residual = config.residual
        self.norm = nn.LayerNorm(width)
        hidden = max(1, round((wanted - 3 * width) / (2 * width + 1)))
        self.rise = nn.Linear(width, hidden)
        self.fall = nn.Linear(hidden, width)

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        out_BND = self.fall(F.gelu(self.rise(self.norm(x_BND))))
        return x_BND + out_BND if self.residual else out_BND


class MatchedDepth(nn.Module):
    """Further blocks of the encoder's kind: as many as fit whole, their MLPs widened to use up what is left."""

    def __init__(self, config: SegmenterConfig, wanted: int) -> None:
        super().__init__()
        with torch.device("meta"):
            whole = trainable_parameters(EncoderBlock(config))
            least = trainable_parameters(EncoderBlock(config, hidden=1))
        step = 2 * config.width + 1  # parameters of one hidden unit
        count = max(1, wanted // whole)
        hidden = max(count, count + round((wanted - count * least) / step))
        self.blocks = nn.ModuleList(
            EncoderBlock(config, hidden=hidden // count + (place < hidden % count)) for place in range(count)
        )

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        for block in self.blocks:
            x_BND = block(x_BND, grid)
        return x_BND
