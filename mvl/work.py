"""How many floating-point operations the segmenter takes, from its settings alone. No torch: a plan asks for it.

Products and convolutions are counted, two operations a multiply-add, as torch's FlopCounterMode counts them. Norms,
activations and interpolation are not.
"""

from __future__ import annotations

import math

from mvl.config import ONE, SegmenterConfig, upsampling_steps


def forward(config: SegmenterConfig) -> int:
    """One crop through the segmenter without its adapters: the baseline."""
    tokens, width = math.prod(config.grid), config.width
    embed = 2 * tokens * config.channels * math.prod(config.patch) * width
    return embed + config.depth * encoder_block(config) + _fusion(config) + _decoder(config)


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
    return 2 * config.width**2 * (taps * math.prod(config.grid) + sum(cells))


def _decoder(config: SegmenterConfig) -> int:
    tokens, classes = math.prod(config.grid), config.classes
    if config.decoder == "linear":
        return 2 * tokens * config.width * classes * math.prod(config.patch)
    steps = upsampling_steps(config.patch)
    subpixel = config.decoder == "subpixel"
    in_cell = math.prod(steps.pop() if subpixel else ONE)
    finest = config.decoder_width * (2 if subpixel else 1)
    before, voxels, total = config.width, tokens, 0
    for level, step in zip(reversed(range(len(steps))), steps, strict=True):
        width = min(config.width, finest << level)
        total += 2 * voxels * before * width
        voxels *= math.prod(step)
        total += 2 * 27 * voxels * width * (config.channels * in_cell + width)
        before = width
    return total + 2 * voxels * before * classes * in_cell
