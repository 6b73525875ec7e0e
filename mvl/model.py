"""The segmenter: patches, encoder, the block it is given or what is matched to it, fusion, decoder."""

from __future__ import annotations

from torch import Tensor, nn

from mvl.adapter import BlockAdapter
from mvl.config import SegmenterConfig
from mvl.decoder import DECODERS
from mvl.fusion import LastTokens, MultiScaleFusion
from mvl.matched import Matched
from mvl.patches import PatchEmbedding, pad_to_multiple
from mvl.vit import EncoderBlock


class Segmenter(nn.Module):
    """3D ViT segmenter with a place for one block. (B, C, X, Y, Z) to logits (B, K, X, Y, Z).

    block: any module with a `width` L that maps (B, N, L) to (B, N, L). matched: what stands there instead, with as
    many trainable parameters. Neither: the baseline, which is this same class without it. The segmenter never loads a
    block. Source: arXiv 2410.02458, figure 1.
    """

    def __init__(self, config: SegmenterConfig, block: nn.Module | None = None, matched: Matched | None = None) -> None:
        super().__init__()
        self.config = config
        self.embed = PatchEmbedding(config.channels, config.patch, config.grid, config.width)
        self.encoder = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.taps = sorted({max(1, config.depth // 2), config.depth})
        multiscale = config.fusion == "multiscale"
        self.fusion = MultiScaleFusion(config.width, len(self.taps)) if multiscale else LastTokens(config.width)
        self.decoder = DECODERS[config.decoder](config)
        # Made last: the parts that all arms share draw the same initial values from the same seed.
        self.adapter: nn.Module | None = None
        if block is not None:
            self.adapter = BlockAdapter(block, config)
        elif matched is not None:
            self.adapter = matched.build(config)
        self.block_at = {"before": 0, "middle": config.depth // 2, "after": config.depth}[config.placement]

    def forward(self, image_BCXYZ: Tensor) -> Tensor:
        """Any size: the image is padded to the patch and the logits are cut back."""
        x, y, z = image_BCXYZ.shape[2:]
        padded = pad_to_multiple(image_BCXYZ, self.config.patch)
        tokens_BND, grid = self.embed(padded)
        depths = []
        for depth in range(self.config.depth + 1):
            if depth > 0:
                tokens_BND = self.encoder[depth - 1](tokens_BND, grid)
            if depth == self.block_at and self.adapter is not None:
                tokens_BND = self.adapter(tokens_BND, grid)
            if depth in self.taps:
                depths.append(tokens_BND)
        return self.decoder(self.fusion(depths, grid), padded)[..., :x, :y, :z]
