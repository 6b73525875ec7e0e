"""The segmenter: patches, encoder, the block it is given or what is matched to it, fusion, decoder.

The whole way of an image, one part a file:
patches.py (B, C, X, Y, Z) -> (B, N, D); skips.py (B, C, X, Y, Z) -> features between tokens and voxels; vit.py and
attention.py (B, N, D) -> (B, N, D); adapter.py, or matched.py in a control, (B, N, D) -> (B, N, D); fusion.py
-> (B, D, U, V, W); decoder.py, which takes in those features, -> (B, K, X, Y, Z).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mvl.adapter import BlockAdapter
from mvl.config import SegmenterConfig
from mvl.decoder import DECODERS
from mvl.fusion import LastTokens, MultiScaleFusion
from mvl.matched import Matched
from mvl.patches import PatchEmbedding, pad_to_multiple, to_tokens
from mvl.recompute import run
from mvl.skips import make_skips
from mvl.vit import EncoderBlock


class Segmenter(nn.Module):
    """3D ViT segmenter with a place for one block, or for two. (B, C, X, Y, Z) to logits (B, K, X, Y, Z).

    block: any module with a `width` L that maps (B, N, L) to (B, N, L), or place -> such a module for each of the
    config's places. One module at two places is used twice, and its parameters are there and count once; its mappers
    are two pairs. matched: what stands there instead, with as many trainable parameters at each place. Neither: the
    baseline, which is this same class without it. The segmenter never loads a block. checkpointing computes each
    encoder block, and the convolutions of each resolution, again in the backward pass instead of keeping their
    activations; a block has a switch of its own. ValueError where blocks are given for other places. Source: arXiv
    2410.02458, figure 1.
    """

    def __init__(
        self,
        config: SegmenterConfig,
        block: nn.Module | Mapping[str, nn.Module] | None = None,
        matched: Matched | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        self.embed = PatchEmbedding(config.channels, config.patch, config.grid, config.width)
        self.skips = make_skips(config)
        self.encoder = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.taps = sorted({max(1, config.depth // 2), config.depth})
        self.fusion: nn.Module = LastTokens(config.width)
        if config.fusion == "multiscale":
            self.fusion = MultiScaleFusion(config.width, len(self.taps), kernel=config.fusion_kernel)
        self.decoder = DECODERS[config.decoder](config)
        # Made last: the parts that all arms share draw the same initial values from the same seed.
        self.adapters = nn.ModuleDict()
        blocks = block if isinstance(block, Mapping) else {} if block is None else dict.fromkeys(config.places, block)
        if blocks and blocks.keys() != config.places.keys():
            raise ValueError(f"blocks are given for {', '.join(blocks)}; model.placement is {config.placement!r}")
        for place in config.places:
            if blocks:
                self.adapters[place] = BlockAdapter(blocks[place], config)
            elif matched is not None:
                self.adapters[place] = matched.build(config)

    def forward(self, image_BCXYZ: Tensor) -> Tensor:
        """Any size: the image is padded to the patch and the logits are cut back."""
        x, y, z = image_BCXYZ.shape[2:]
        padded = pad_to_multiple(image_BCXYZ, self.config.patch)
        tokens_BND, grid = self.embed(padded)
        skips, more_BDUVW = self.skips(padded, self.checkpointing)
        if more_BDUVW is not None:
            tokens_BND = tokens_BND + to_tokens(more_BDUVW)
        depths = []
        for depth in range(self.config.depth + 1):
            if depth > 0:
                tokens_BND = run(self.encoder[depth - 1], tokens_BND, grid, again=self.checkpointing)
            for place, adapter in self.adapters.items():
                if depth == self.config.places[place]:
                    tokens_BND = adapter(tokens_BND, grid)
            if depth in self.taps:
                depths.append(tokens_BND)
        return self.decoder(self.fusion(depths, grid), skips, self.checkpointing)[..., :x, :y, :z]
