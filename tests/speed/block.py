"""The block at the shape of an 8B model: how much of its time is bare matrix products, and what bf16 gains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.speed.harness import Reading, alternate, measurement, say, versioned

if TYPE_CHECKING:
    import torch

    from backbones.block import FrozenBlock

TOKENS = 512
ROW = "llama3"  # width 4096, 32 heads, 8 key-value heads, ffn 14336

#: What /proc/cpuinfo calls instructions that multiply bf16.
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}

#: Emulated bf16 is a hundred times slower: it is measured once, on few tokens, and decides nothing.
EMULATED_TOKENS = 8
NO_BF16 = f"this CPU has no bf16 instructions and emulates them; measured once, on {EMULATED_TOKENS} tokens"

#: Of the block's time, what bare matrix products take at least; and how much faster bf16 is at least.
SHARE, GAIN = 0.70, 1.7


def multiplies_bf16() -> bool:
    """Whether the CPU says that it has instructions for bf16; one that says nothing has none."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and not BF16_FLAGS.isdisjoint(cpuinfo.read_text().split())


def random_block(dtype: str) -> FrozenBlock:
    """The block with random weights."""
    import backbones
    from backbones import block
    from backbones.spec import BlockOptions

    row = backbones.get(ROW)
    say(f"  making a block of {row.name}'s shape in {dtype}")
    return block.initialised(row, row.layer, 0, BlockOptions(dtype=dtype))


def both_ways(block: FrozenBlock, tokens: int) -> Callable[[], torch.Tensor]:
    """Forward, and backward to the input."""
    import torch

    dtype = next(block.parameters()).dtype
    x_BND, gradient_BND = torch.randn(2, 1, tokens, block.width).to(dtype)

    def run() -> torch.Tensor:
        x = x_BND.detach().requires_grad_()
        return torch.autograd.grad(block(x), x, gradient_BND)[0]

    return run


def bare_products(block: FrozenBlock, tokens: int) -> Callable[[], None]:
    """The products that such a block cannot do without, on its own matrices: forward, and for the input's gradient.

    Frozen matrices need no gradient. Attention has two products forward and four backward in each of its heads.
    """
    import torch

    import backbones
    from backbones import registry

    matrices_OI = [parameter.detach() for parameter in block.parameters() if parameter.ndim == 2]
    dtype = matrices_OI[0].dtype
    activations = {size: torch.randn(tokens, size).to(dtype) for matrix in matrices_OI for size in matrix.shape}
    row = backbones.get(ROW)
    shape = registry.family(row).shape(row.config)
    heads_HNK = torch.randn(shape.heads, tokens, shape.head_dim).to(dtype)
    weights_HNM = torch.randn(shape.heads, tokens, tokens).to(dtype)

    def run() -> None:
        for matrix_OI in matrices_OI:
            torch.mm(activations[matrix_OI.shape[1]], matrix_OI.T)
            torch.mm(activations[matrix_OI.shape[0]], matrix_OI)
        for _ in range(2):  # scores, and the weights' gradient
            torch.bmm(heads_HNK, heads_HNK.mT)
        for _ in range(4):  # what is attended to, and the gradients of queries, keys and values
            torch.bmm(weights_HNM, heads_HNK)

    return run


def _compare(
    ours: Callable[[int], Callable[[], Any]],
    peer: Callable[[int], Callable[[], Any]],
    note: str,
    runs: int,
    decided: bool,
) -> Reading:
    """Two makers of calls for a number of tokens. note takes the peer's time over ours."""
    tokens = TOKENS if decided else EMULATED_TOKENS
    runs = runs if decided else 1
    mine, theirs = alternate(ours(tokens), peer(tokens), runs, warm=decided)
    return Reading(mine, theirs, note.format(theirs / mine), "" if decided else NO_BF16, runs)


def _share(dtype: str, runs: int) -> Reading:
    block = random_block(dtype)
    return _compare(
        partial(both_ways, block),
        partial(bare_products, block),
        "bare products take {:.0%} of the block's time",
        runs,
        dtype == "fp32" or multiplies_bf16(),
    )


@measurement(
    "block-8b-matmul-fp32",
    "8B block, 512 tokens, both ways, fp32: bare matrix products take at least 70 % of its time",
    f"bare products of {versioned('torch')}",
    1 / SHARE,
)
def share_fp32(runs: int) -> Reading:
    return _share("fp32", runs)


@measurement(
    "block-8b-matmul-bf16",
    "the same in bf16, where the CPU multiplies it",
    f"bare products of {versioned('torch')}",
    1 / SHARE,
)
def share_bf16(runs: int) -> Reading:
    return _share("bf16", runs)


@measurement(
    "block-8b-bf16",
    "8B block, 512 tokens, both ways: bf16 at least 1.7 times as fast as fp32, where the CPU multiplies it",
    f"the same block in fp32, {versioned('torch')}",
    1 / GAIN,
)
def gain_of_bf16(runs: int) -> Reading:
    bf16, fp32 = (partial(both_ways, random_block(dtype)) for dtype in ("bf16", "fp32"))
    return _compare(bf16, fp32, "bf16 is {:.2g} times as fast as fp32", runs, multiplies_bf16())
