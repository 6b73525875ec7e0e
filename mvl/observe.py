"""What goes on inside a model while it looks at an image: energies of tokens, attention entropy, amplification.

A model only says what its parts are; hooks are set on them for as long as one looks, and cost nothing otherwise.

Energy of a token, or of a place of a convolutional encoder's deepest features: the mean of |x| over its channels.
Entropy of a token's attention: -sum p log p over the tokens it looks at, as a share of log N, its largest value: 1
looks everywhere alike, 0 at one token. Amplification of the block: |block(x)| / |x|, Frobenius norms over all tokens,
in the block's own width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mvl.config import Size3

#: Tokens whose attention is looked at, evenly spread: bounds the memory, and changes the mean in the third digit.
_QUERIES = 256


@dataclass
class Seen:
    """One forward pass. energy: stage -> (B, U, V, W), a value a cell of voxels, from the image's first corner on.

    Stages, in the order of the way: `before` and `block`, what enters and leaves the block with its residual (at a
    second place `before2` and `block2`), where there is a block or what is matched to it; `encoder`, what leaves the
    encoder's end. entropy: one value an encoder block with attention over all tokens. amplification: one value a place,
    where there is a block.
    """

    cell: Size3
    grid: Size3
    energy: dict[str, Tensor] = field(default_factory=dict)
    entropy: list[float] = field(default_factory=list)
    amplification: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """The parts of a model that are looked at.

    entrance: takes in the image (B, C, X, Y, Z), padded to whole cells, once a pass and before all others. cell: the
    voxels that a place of the encoder's end stands for. end: gives tokens (B, N, D) or features (B, D, U, V, W), before
    any last norm over channels, after which all are of about one energy. qkv: linear maps to queries, keys and values
    of attention over all tokens, one an encoder block, with so many heads. adapters: around the block, or what is
    matched to it, in the order of the way.
    """

    entrance: nn.Module
    cell: Size3
    end: nn.Module
    qkv: Sequence[nn.Module] = ()
    heads: int = 1
    adapters: Sequence[nn.Module] = ()


class Observable(Protocol):
    """A model that may be looked into."""

    def parts(self) -> Parts:
        """What is looked at."""


@contextmanager
def observed(model: Observable) -> Iterator[list[Seen]]:
    """What each forward pass inside the `with` shows, in their order."""
    passes: list[Seen] = []
    parts = model.parts()
    with ExitStack() as hooks:

        def watch(part: nn.Module, note: Callable[[tuple[Any, ...], Tensor], None]) -> None:
            hooks.callback(part.register_forward_hook(lambda _, inputs, output: note(inputs, output)).remove)

        for qkv in parts.qkv:
            watch(qkv, lambda _, o: passes[-1].entropy.append(entropy(o, parts.heads)))
        watch(parts.end, lambda _, o: passes[-1].energy.update(encoder=energy(o, passes[-1].grid)))
        for number, adapter in enumerate(parts.adapters, start=1):
            _watch_adapter(adapter, "" if number == 1 else str(number), passes, watch)
        # A block that stands at two places is one module: its own hook runs at both.
        for one in {part.get_submodule("block") for part in parts.adapters if hasattr(part, "block")}:
            watch(one, lambda i, o: passes[-1].amplification.append(norm(o) / max(norm(i[0]), 1e-12)))
        enter = parts.entrance.register_forward_pre_hook(lambda _, i: passes.append(_begun(i[0], parts.cell)))
        hooks.callback(enter.remove)
        yield passes


def _begun(padded_BCXYZ: Tensor, cell: Size3) -> Seen:
    u, v, w = (side // step for side, step in zip(padded_BCXYZ.shape[2:], cell, strict=True))
    return Seen(cell, (u, v, w))


def _watch_adapter(adapter: nn.Module, suffix: str, passes: list[Seen], watch: Callable[..., None]) -> None:
    watch(
        adapter,
        lambda i, o: passes[-1].energy.update(
            {f"before{suffix}": energy(i[0], passes[-1].grid), f"block{suffix}": energy(o, passes[-1].grid)}
        ),
    )


def energy(x: Tensor, grid: Size3) -> Tensor:
    """Tokens (B, N, D) of this grid, or features (B, D, U, V, W), to the mean of |x| over D, (B, U, V, W), in fp32."""
    strong = x.detach().float().abs()
    return strong.mean(1) if x.dim() == 5 else strong.mean(-1).unflatten(1, grid)


def norm(x: Tensor) -> float:
    """The Frobenius norm, in fp32."""
    return float(x.detach().float().norm())


@torch.no_grad()
def entropy(qkv_BNT: Tensor, heads: int) -> float:
    """Mean over samples, heads and tokens of attention's entropy as a share of log N.

    qkv: queries, keys and values side by side, (B, N, 3 D).
    """
    q_BND, k_BND, _ = qkv_BNT.float().chunk(3, dim=-1)
    q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q_BND, k_BND))
    tokens = k.shape[2]
    if tokens == 1:
        return 0.0
    chosen = torch.linspace(0, tokens - 1, min(tokens, _QUERIES), device=q.device).long()
    log_p = (q[:, :, chosen] @ k.mT / math.sqrt(q.shape[-1])).log_softmax(-1)
    return float(-(log_p.exp() * log_p).sum(-1).mean() / math.log(tokens))
