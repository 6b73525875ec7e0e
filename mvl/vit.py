"""The ViT encoder: pre-norm transformer blocks that keep the grid in hand for their local branch."""

from __future__ import annotations

from torch import Tensor, nn

from mvl.attention import ATTENTION
from mvl.config import SegmenterConfig, Size3


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). (B, N, D) to (B, N, D).

    hidden is the MLP's inner width, config.mlp_ratio times the width where it is left out; inner that of the attention,
    which has fewer heads where they do not divide it.
    """

    def __init__(self, config: SegmenterConfig, hidden: int | None = None, inner: int | None = None) -> None:
        super().__init__()
        width, hidden = config.width, hidden or int(config.width * config.mlp_ratio)
        self.norm_attention = nn.LayerNorm(width)
        heads = config.heads if inner is None else max(n for n in range(1, config.heads + 1) if inner % n == 0)
        self.attention = ATTENTION[config.attention](width, heads, config.dropout, inner)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        x_BND = x_BND + self.drop(self.attention(self.norm_attention(x_BND), grid))
        return x_BND + self.drop(self.mlp(self.norm_mlp(x_BND)))
