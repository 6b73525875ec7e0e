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


@dataclass(frozen=True)
class Matched:
    """kind `mlp` or `depth`, of the size of the adapter around a frozen block that is `width` wide."""

    kind: str
    width: int

    def build(self, config: SegmenterConfig) -> nn.Module:
        """The module: (B, N, D) and the grid to (B, N, D), with just as many. ValueError if that is too few for one."""
        return KINDS[self.kind](config, adapter_parameters(config, self.width))


def trainable_parameters(module: nn.Module) -> int:
    """The number of parameters that take a gradient."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def adapter_parameters(config: SegmenterConfig, width: int) -> int:
    """Trainable parameters of the adapter around a frozen block of this width, counted on the module itself."""
    with torch.device("meta"):
        block = nn.Identity()
        block.width = width  # type: ignore[assignment]
        return trainable_parameters(BlockAdapter(block, config))


def _refuse(kind: str, wanted: int, least: int, width: int) -> ValueError:
    return ValueError(
        f"--controls {kind}: the arm trains {wanted:,} parameters around its block, and {kind} needs {least:,} at "
        f"model.width {width}; leave out {kind}, or use a smaller model.width, or model.mapper_lora 0, which trains "
        "the mappers whole"
    )


class Remainder(nn.Module):
    """The parameters that make up no hidden unit: a scale of the first channels, then a shift. It starts as nothing.

    count is from 1 to 2 D.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.values = nn.Parameter(torch.zeros(count))

    def forward(self, x_BND: Tensor) -> Tensor:
        scale_D, shift_D = F.pad(self.values, (0, 2 * self.width - len(self.values))).chunk(2)
        return x_BND * (1 + scale_D) + shift_D


class MatchedMLP(nn.Module):
    """Norm, linear map, GELU, linear map, with `wanted` trainable parameters."""

    def __init__(self, config: SegmenterConfig, wanted: int) -> None:
        super().__init__()
        width = config.width
        hidden, left = divmod(wanted - 3 * width, 2 * width + 1)
        if hidden < 1:
            raise _refuse("mlp", wanted, 5 * width + 1, width)
        self.residual = config.residual
        self.norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, hidden)
        self.fall = nn.Linear(hidden, width)
        self.remainder = Remainder(left, width) if left else nn.Identity()

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        out_BND = self.remainder(self.fall(F.gelu(self.rise(self.norm(x_BND)))))
        return x_BND + out_BND if self.residual else out_BND


class MatchedDepth(nn.Module):
    """Further blocks of the encoder's kind, with `wanted` trainable parameters.

    As many as fit whole, their MLPs widened to use up what is left; where not one fits, one that is narrower inside.
    """

    def __init__(self, config: SegmenterConfig, wanted: int) -> None:
        super().__init__()
        count = max(1, wanted // _size(config))
        inner = config.width if wanted >= _size(config) else _narrower(config, wanted)
        spare, left = divmod(wanted - count * _size(config, 1, inner), 2 * config.width + 1)
        hidden = count + spare
        self.blocks = nn.ModuleList(
            EncoderBlock(config, hidden // count + (place < hidden % count), inner) for place in range(count)
        )
        self.remainder = Remainder(left, config.width) if left else nn.Identity()

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        for block in self.blocks:
            x_BND = block(x_BND, grid)
        return self.remainder(x_BND)


def _size(config: SegmenterConfig, hidden: int | None = None, inner: int | None = None) -> int:
    with torch.device("meta"):
        return trainable_parameters(EncoderBlock(config, hidden, inner))


def _narrower(config: SegmenterConfig, wanted: int) -> int:
    """The attention's inner width that leaves the MLP its usual share of the parameters."""
    inner = max(1, config.width * wanted // _size(config))
    while inner > 1 and _size(config, 1, inner) > wanted:
        inner -= 1
    if (least := _size(config, 1, inner)) > wanted:
        raise _refuse("depth", wanted, least, config.width)
    return inner


#: What can be matched, by the names that records use.
KINDS: dict[str, type[MatchedMLP] | type[MatchedDepth]] = {"mlp": MatchedMLP, "depth": MatchedDepth}
