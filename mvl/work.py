"""How many floating-point operations the segmenter takes, from its settings alone. No torch: a plan asks for it.

Products and convolutions are counted, two operations a multiply-add, as torch's FlopCounterMode counts them. Norms,
activations and interpolation are not.
"""

from __future__ import annotations

import math

from mvl.config import SegmenterConfig
from mvl.ladder import Ladder


def forward(config: SegmenterConfig) -> int:
    """One crop through the segmenter without its adapters: the baseline."""
    tokens, width = math.prod(config.grid), config.width
    embed = 2 * tokens * config.channels * math.prod(config.patch) * width
    return embed + config.depth * encoder_block(config) + _fusion(config) + _skips(config) + _decoder(config)


def encoder_block(config: SegmenterConfig) -> int:
    """One block of the encoder."""
    tokens, width = math.prod(config.grid), config.width
    hidden = int(width * config.mlp_ratio)
    dense = 2 * tokens * width * (4 * width + 2 * hidden)
    local = 2 * tokens * width * (width + 27) if config.attention == "hybrid" else 0
    return dense + local + 4 * tokens**2 * width


def mappers(config: SegmenterConfig, block_width: int) -> int:
    """The two maps around the block, at all of its places."""
    tokens, width, rank = math.prod(config.grid), config.width, config.mapper_lora
    lora = 2 * rank * (width + block_width)
    return len(config.places) * 2 * tokens * (2 * width * block_width + lora)


def block(config: SegmenterConfig, block_width: int, parameters: int) -> int:
    """A transformer block of so many parameters, at all of its places: a product with each, and attention."""
    tokens = math.prod(config.grid)
    return len(config.places) * (2 * tokens * parameters + 4 * tokens**2 * block_width)


def matched(config: SegmenterConfig, block_width: int) -> int:
    """A control of capacity: a product with each of the parameters that the adapter would train."""
    tokens, width, rank = math.prod(config.grid), config.width, config.mapper_lora
    norms = 2 * width + 2 * block_width
    if rank:
        trained = norms + 2 * rank * (width + block_width)
    else:
        trained = norms + 2 * width * block_width + width + block_width
    return len(config.places) * 2 * tokens * trained


def _fusion(config: SegmenterConfig) -> int:
    if config.fusion != "multiscale":
        return 0
    taps = len({max(1, config.depth // 2), config.depth})
    cells = [math.prod(max(1, side // scale) for side in config.grid) for scale in (2, 4)]
    return 2 * config.width**2 * (taps * math.prod(config.grid) + sum(cells) * config.fusion_kernel**3)


def _positions(config: SegmenterConfig, ladder: Ladder) -> list[int]:
    """Of each resolution, coarse to fine, and before them of the token grid."""
    found = [math.prod(config.grid)]
    for step in ladder.steps:
        found.append(found[-1] * math.prod(step))
    return found


def _convs(config: SegmenterConfig, inside: int, outside: int) -> int:
    """Of decoder_depth convolutions of 3x3x3, at one position."""
    return 2 * 27 * outside * (inside + (config.decoder_depth - 1) * outside)


def _skips(config: SegmenterConfig) -> int:
    """Features of the image at each resolution; with the stem `conv` each from the finer one, down to the tokens."""
    if config.stem != "conv" and config.decoder == "linear":
        return 0
    ladder = Ladder.of(config)
    places, image = _positions(config, ladder)[1:], config.channels * ladder.voxels
    if config.stem != "conv":
        return sum(at * _convs(config, image, width) for at, width in zip(places, ladder.widths, strict=True))
    total, inside = 0, image
    coarser = [config.width, *ladder.widths][:-1]
    for at, width, below in reversed(list(zip(places, ladder.widths, coarser, strict=True))):
        total += at * (_convs(config, inside, width) + 2 * width * below)
        inside = below
    return total


def _decoder(config: SegmenterConfig) -> int:
    tokens, classes = math.prod(config.grid), config.classes
    if config.decoder == "linear":
        return 2 * tokens * config.width * classes * math.prod(config.patch)
    ladder = Ladder.of(config)
    places, inner = _positions(config, ladder), [config.width, *ladder.widths]
    total = 2 * places[-1] * inner[-1] * classes * ladder.voxels
    for before, at, coarse, width in zip(places, places[1:], inner, ladder.widths, strict=False):
        total += 2 * before * coarse * width + at * _convs(config, width, width)
    return total
