"""UNETR around the ViT of the preset: its patch, width, depth and heads.

MONAI's own class has patches of 16 and twelve blocks and no way to ask for others, which would make it another ViT than
the segmenter's. So its parts are put together here for any patch: one decoder stage for each halving of the patch. For
patches of 16 and twelve blocks the result is MONAI's UNETR, parameter by parameter.
Source: Hatamizadeh et al. 2022, arXiv 2103.10504.
"""

from __future__ import annotations

from itertools import pairwise

from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock, get_conv_layer
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets.vit import ViT
from torch import Tensor, nn
from torch.nn import functional as F

from mvl.config import SegmenterConfig, Size3
from mvl.ladder import upsampling_steps
from mvl.patches import to_grid
from mvl.references.fitted import Fitted, fit

_NORM = "instance"


def build(config: SegmenterConfig, features: int) -> Fitted:
    """features channels at full resolution, twice as many at each coarser one."""
    net = UNETR(config, features)
    blocks = net.vit.blocks
    qkv = [block.get_submodule("attn.qkv") for block in blocks]
    return Fitted(net, config, step=config.patch, end=blocks[-1], qkv=qkv)


class UNETR(nn.Module):
    """Sides are multiples of the patch. (B, C, X, Y, Z) to logits (B, K, X, Y, Z)."""

    def __init__(self, config: SegmenterConfig, features: int) -> None:
        super().__init__()
        self.patch, self.grid, self.dropout = config.patch, config.grid, config.dropout
        steps = upsampling_steps(config.patch)
        widths = [features << place for place in reversed(range(len(steps)))]
        self.vit = ViT(
            in_channels=config.channels,
            img_size=fit(config.image, config.patch, (1, 1, 1)),
            patch_size=config.patch,
            hidden_size=config.width,
            mlp_dim=int(config.width * config.mlp_ratio),
            num_layers=config.depth,
            num_heads=config.heads,
            dropout_rate=config.dropout,
        )
        for block in self.vit.blocks:
            block.attn.use_flash_attention = True  # type: ignore[union-attr]
            del block.norm_cross_attn  # MONAI makes it, and uses it only where there is cross-attention
        # The blocks whose tokens the decoder takes in, the shallowest first: the 4th, 7th and 10th of twelve.
        self.taps = [config.depth * place // len(steps) for place in range(1, len(steps))]
        self.image_skip = UnetrBasicBlock(3, config.channels, features, 3, 1, _NORM, res_block=True)
        self.skips = nn.ModuleList(
            _rise(config.width, width, steps[: place + 1]) for place, width in reversed(list(enumerate(widths[:-1])))
        )
        self.ups = nn.ModuleList(
            UnetrUpBlock(3, inside, outside, 3, step, _NORM, res_block=True)
            for (inside, outside), step in zip(pairwise([config.width, *widths]), steps, strict=True)
        )
        self.head = UnetOutBlock(3, features, config.classes)

    def train(self, mode: bool = True) -> UNETR:
        """As torch's; MONAI's flash attention would drop weights in evaluation, too."""
        for block in self.vit.blocks:
            block.attn.dropout_rate = self.dropout if mode else 0.0  # type: ignore[union-attr]
        return super().train(mode)

    def forward(self, image_BCXYZ: Tensor) -> Tensor:
        x, y, z = image_BCXYZ.shape[2:]
        grid = (x // self.patch[0], y // self.patch[1], z // self.patch[2])
        last_BND, tapped = self._encode(image_BCXYZ, grid)
        skips = [rise(to_grid(tokens_BND, grid)) for rise, tokens_BND in zip(self.skips, tapped, strict=True)]
        out = to_grid(last_BND, grid)
        for up, skip in zip(self.ups, [*reversed(skips), self.image_skip(image_BCXYZ)], strict=True):
            out = up(out, skip)
        return self.head(out)

    def _encode(self, image_BCXYZ: Tensor, grid: Size3) -> tuple[Tensor, list[Tensor]]:
        """The last tokens, normalised, and the tapped ones; positions are interpolated where the grid is another."""
        embed = self.vit.patch_embedding
        positions_1ND: Tensor = embed.position_embeddings
        if grid != self.grid:
            positions = F.interpolate(to_grid(positions_1ND, self.grid), size=grid, mode="trilinear")
            positions_1ND = positions.flatten(2).transpose(1, 2)
        x_BND = embed.dropout(embed.patch_embeddings(image_BCXYZ).flatten(2).transpose(1, 2) + positions_1ND)
        states = []
        for block in self.vit.blocks:
            x_BND = block(x_BND)
            states.append(x_BND)
        return self.vit.norm(x_BND), [states[place] for place in self.taps]


def _rise(inside: int, outside: int, steps: list[Size3]) -> nn.Sequential:
    """Tokens to the resolution after these steps: a transposed convolution each, a residual block after all but one."""
    parts: list[nn.Module] = [_transposed(inside, outside, steps[0])]
    for step in steps[1:]:
        parts += [_transposed(outside, outside, step), UnetResBlock(3, outside, outside, 3, 1, _NORM)]
    return nn.Sequential(*parts)


def _transposed(inside: int, outside: int, step: Size3) -> nn.Module:
    return get_conv_layer(3, inside, outside, kernel_size=step, stride=step, conv_only=True, is_transposed=True)
