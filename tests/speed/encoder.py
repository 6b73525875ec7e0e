"""The segmenter's encoder against MONAI's ViT of the same weights, and against bare products."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.speed.harness import Reading, alternate, measurement, versioned
from tests.speed.segmenter_sides import Size, with_flash

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mvl.config import SegmenterConfig

#: 4,096 tokens.
ENCODER = Size(128)
#: Bare products take at least this share of the encoder's time.
SHARE = 0.70


def encoders(size: Size) -> tuple[nn.Module, nn.Module, Tensor]:
    """Our encoder with global attention, MONAI's ViT with flash attention and the same weights, and an image."""
    import torch
    from monai.networks.nets.vit import ViT

    from mvl.model import Segmenter

    config = size.config(attention="global", fusion="none", stem="linear", decoder="linear")
    torch.manual_seed(0)
    segmenter = Segmenter(config)
    hidden = int(config.width * config.mlp_ratio)
    vit = ViT(
        *(1, config.image, config.patch, config.width, hidden, config.depth, config.heads),
        dropout_rate=config.dropout,
        qkv_bias=True,
    )
    copy_weights(segmenter, vit)
    return _encoder(segmenter), with_flash(vit), torch.randn(1, 1, *config.image)


def _encoder(segmenter: Any) -> nn.Module:
    from torch import nn

    class Encoder(nn.Module):
        """Embedding, blocks and last norm of a segmenter. (B, C, X, Y, Z) to (B, N, D)."""

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.blocks, self.norm = segmenter.embed, segmenter.encoder, segmenter.fusion.norm

        def forward(self, image_BCXYZ: Tensor) -> Tensor:
            x_BND, grid = self.embed(image_BCXYZ)
            for block in self.blocks:
                x_BND = block(x_BND, grid)
            return self.norm(x_BND)

    return Encoder()


def copy_weights(segmenter: Any, vit: Any) -> None:
    """MONAI's ViT computes what our encoder does."""
    pairs = [(segmenter.fusion.norm, vit.norm)]
    for mine, its in zip(segmenter.encoder, vit.blocks, strict=True):
        pairs += [(mine.norm_attention, its.norm1), (mine.norm_mlp, its.norm2)]
        pairs += [(mine.attention.qkv, its.attn.qkv), (mine.attention.out, its.attn.out_proj)]
        pairs += [(mine.mlp[0], its.mlp.linear1), (mine.mlp[2], its.mlp.linear2)]
    for ours_, theirs in pairs:
        theirs.load_state_dict(ours_.state_dict())
    embed = vit.patch_embedding
    embed.patch_embeddings.weight.data.copy_(segmenter.embed.project.weight.view_as(embed.patch_embeddings.weight))
    embed.patch_embeddings.bias.data.copy_(segmenter.embed.project.bias)
    embed.position_embeddings.data.copy_(segmenter.embed.position_1DUVW.flatten(2).transpose(1, 2))


def both_ways(model: nn.Module, image: Tensor) -> Callable[[], Any]:
    """Forward, and backward to every parameter."""
    import torch

    def run() -> Any:
        out = model(image)
        tokens_BND = out[0] if isinstance(out, tuple) else out
        return torch.autograd.grad(tokens_BND.square().mean(), list(model.parameters()), allow_unused=True)

    return run


def encoder_reading(size: Size, runs: int) -> Reading:
    import torch

    mine, theirs, image = encoders(size)
    with torch.no_grad():
        torch.testing.assert_close(mine(image), theirs(image)[0], rtol=1e-3, atol=1e-4)
    our_time, peer_time = alternate(both_ways(mine, image), both_ways(theirs, image), runs)
    return Reading(our_time, peer_time, "equal outputs with the same weights")


@measurement(
    "encoder-4096",
    "the encoder alone at 4,096 tokens, both ways: not slower than MONAI's ViT of the same sizes and weights",
    f"ViT of {versioned('monai')}, flash attention on",
    1.0,
)
def encoder_4096(runs: int) -> Reading:
    return encoder_reading(ENCODER, runs)


def bare_products(config: SegmenterConfig) -> Callable[[], None]:
    """The products and attention that such an encoder cannot do without, forward and backward, on tensors at hand."""
    import torch
    from torch.nn import functional as F

    u, v, w = config.grid
    tokens, width, hidden = u * v * w, config.width, int(config.width * config.mlp_ratio)
    p, q, r = config.patch
    block = [(width, 3 * width), (width, width), (width, hidden), (hidden, width)]
    shapes = [(p * q * r * config.channels, width), *block * config.depth]
    sides = {side for shape in shapes for side in shape}
    activations = {side: torch.randn(tokens, side) for side in sides}
    matrices = {shape: torch.randn(shape) for shape in shapes}
    heads = [torch.randn(1, config.heads, tokens, width // config.heads, requires_grad=True) for _ in range(3)]
    gradient = torch.randn_like(heads[0])

    def run() -> None:
        for place, shape in enumerate(shapes):
            x, g, matrix = activations[shape[0]], activations[shape[1]], matrices[shape]
            torch.mm(x, matrix)
            torch.mm(x.T, g)
            if place:  # the image takes no gradient
                torch.mm(g, matrix.T)
        for _ in range(config.depth):
            torch.autograd.grad(F.scaled_dot_product_attention(*heads), heads, gradient)

    return run


def share_reading(size: Size, runs: int) -> Reading:
    mine, _, image = encoders(size)
    our_time, bare = alternate(both_ways(mine, image), bare_products(size.config()), runs)
    return Reading(our_time, bare, f"bare products and attention take {bare / our_time:.0%} of the encoder's time")


@measurement(
    "encoder-4096-products",
    "of that time, bare matrix products and attention of the same shapes take at least 70 %",
    f"bare products of {versioned('torch')}",
    1 / SHARE,
)
def encoder_4096_products(runs: int) -> Reading:
    return share_reading(ENCODER, runs)
