"""What goes on inside a segmenter while it looks at an image: energies of tokens, attention entropy, amplification.

Nothing of it is in the model: hooks are set for as long as one looks, and cost nothing otherwise.

Energy of a token: the mean of |x| over its channels. Entropy of a token's attention: -sum p log p over the tokens it
looks at, as a share of log N, its largest value: 1 looks everywhere alike, 0 at one token. Amplification of the block:
|block(x)| / |x|, Frobenius norms over all tokens, in the block's own width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mvl.attention import GlobalAttention
from mvl.config import Size3

#: Tokens whose attention is looked at, evenly spread: bounds the memory, and changes the mean in the third digit.
_QUERIES = 256


@dataclass
class Seen:
    """One forward pass. energy: stage -> (B, U, V, W); stages in the order of the way.

    Stages: `before` and `block`, what enters and leaves the block with its residual (at a second place `before2` and
    `block2`), where there is a block or what is matched to it; `encoder`, what leaves the last encoder block. entropy:
    one value an encoder block. amplification: one value a place, where there is a block.
    """

    energy: dict[str, Tensor] = field(default_factory=dict)
    entropy: list[float] = field(default_factory=list)
    amplification: list[float] = field(default_factory=list)


def can_observe(model: nn.Module) -> bool:
    """Whether a model has the parts that are looked at; a reference model of another kind has none."""
    return hasattr(model, "encoder") and hasattr(model, "adapters")


@contextmanager
def observed(model: nn.Module) -> Iterator[list[Seen]]:
    """What each forward pass inside the `with` shows, of a Segmenter, in their order."""
    passes: list[Seen] = []
    encoder, adapters = model.encoder, model.adapters
    assert isinstance(encoder, nn.ModuleList) and isinstance(adapters, nn.ModuleDict)
    with ExitStack() as hooks:

        def watch(part: nn.Module, note: Callable[[tuple[Any, ...], Tensor], None]) -> None:
            hooks.callback(part.register_forward_hook(lambda _, inputs, output: note(inputs, output)).remove)

        for block in encoder:
            _watch_attention(block.attention, passes, watch)
        watch(encoder[-1], lambda i, o: passes[-1].energy.update(encoder=energy(o, i[1])))
        for number, adapter in enumerate(adapters.values(), start=1):
            _watch_adapter(adapter, "" if number == 1 else str(number), passes, watch)
        # A block that stands at two places is one module: its own hook runs at both.
        for one in {part.get_submodule("block") for part in adapters.values() if hasattr(part, "block")}:
            watch(one, lambda i, o: passes[-1].amplification.append(norm(o) / max(norm(i[0]), 1e-12)))
        hooks.callback(model.register_forward_pre_hook(lambda *_: passes.append(Seen())).remove)
        yield passes


def _watch_attention(attention: Tensor | nn.Module, passes: list[Seen], watch: Callable[..., None]) -> None:
    assert isinstance(attention, GlobalAttention)
    heads = attention.heads
    watch(attention.qkv, lambda _, qkv: passes[-1].entropy.append(entropy(qkv, heads)))


def _watch_adapter(adapter: nn.Module, suffix: str, passes: list[Seen], watch: Callable[..., None]) -> None:
    watch(
        adapter,
        lambda i, o: passes[-1].energy.update(
            {f"before{suffix}": energy(i[0], i[1]), f"block{suffix}": energy(o, i[1])}
        ),
    )


def energy(x_BND: Tensor, grid: Size3) -> Tensor:
    """(B, N, D) to the mean of |x| over channels, (B, U, V, W), in fp32."""
    return x_BND.detach().float().abs().mean(-1).unflatten(1, grid)


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
