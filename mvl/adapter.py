"""How a frozen block of another width joins the segmenter: mapper, block, norm, mapper, residual."""

from __future__ import annotations

from torch import Tensor, nn


class BlockAdapter(nn.Module):
    """Two linear "dimension mappers" around a block that maps (B, N, L) to (B, N, L).

    A last LLM block can amplify its input 400-fold, so its output is normalised before it is mapped back. The block
    arrives ready-made and frozen; this module neither loads nor freezes it. Source: arXiv 2410.02458; the norms are
    this project's choice.
    """

    def __init__(self, block: nn.Module, width: int, residual: bool) -> None:
        super().__init__()
        block_width = int(block.width)  # type: ignore[arg-type]
        self.residual = residual
        self.norm_in = nn.LayerNorm(width)
        self.map_in = nn.Linear(width, block_width)
        self.block = block
        self.norm_out = nn.LayerNorm(block_width)
        self.map_out = nn.Linear(block_width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        mapped_BNL = self.block(self.map_in(self.norm_in(x_BND)))
        out_BND = self.map_out(self.norm_out(mapped_BNL))
        return x_BND + out_BND if self.residual else out_BND
