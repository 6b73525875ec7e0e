"""Self-attention over all tokens, and the hybrid of global and local.

The paper (arXiv 2410.02458, v1) names a "Hybrid Attention Mechanism" that combines global and local feature learning,
without equations, and no public code has one. HybridAttention is this project's own design.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import Size3
from mvl.patches import to_grid, to_tokens


class GlobalAttention(nn.Module):
    """Multi-head scaled dot-product attention over all tokens, without mask. (B, N, D) to (B, N, D).

    inner is the width of queries, keys and values, a multiple of heads; D where it is left out.
    """

    def __init__(self, width: int, heads: int, dropout: float, inner: int | None = None) -> None:
        super().__init__()
        self.heads, self.dropout, self.inner = heads, dropout, inner or width
        self.qkv = nn.Linear(width, 3 * self.inner)
        self.out = nn.Linear(self.inner, width)

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        q, k, v_BND = self.qkv(x_BND).chunk(3, dim=-1)
        return self.out(self.attend(q, k, v_BND))

    def attend(self, q_BND: Tensor, k_BND: Tensor, v_BND: Tensor) -> Tensor:
        q, k, v = (rearrange(t, "b n (h e) -> b h n e", h=self.heads) for t in (q_BND, k_BND, v_BND))
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return rearrange(mixed, "b h n e -> b n (h e)")


class HybridAttention(GlobalAttention):
    """Global attention beside a local branch, joined by a learned gate a token and channel.

    Local branch: a depthwise 3x3x3 convolution of the values on the token grid, so a token sees its 26 neighbours at
    the cost of 27 products a channel. Gate: g = sigmoid(W x), result = out(g * global + (1 - g) * local).
    """

    def __init__(self, width: int, heads: int, dropout: float, inner: int | None = None) -> None:
        super().__init__(width, heads, dropout, inner)
        self.local = nn.Conv3d(self.inner, self.inner, kernel_size=3, padding=1, groups=self.inner)
        self.gate = nn.Linear(width, self.inner)

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        q, k, v_BND = self.qkv(x_BND).chunk(3, dim=-1)
        local = to_tokens(self.local(to_grid(v_BND, grid)))
        gate = torch.sigmoid(self.gate(x_BND))
        return self.out(torch.lerp(local, self.attend(q, k, v_BND), gate))


ATTENTION: dict[str, type[GlobalAttention]] = {"global": GlobalAttention, "hybrid": HybridAttention}
