"""The segmenter and UNETR around the same ViT, of one size: how each is built, and a training step of either."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.speed.harness import CannotMeasure

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mvl.config import SegmenterConfig

CLASSES = 3


@dataclass(frozen=True)
class Size:
    """What of the preset `default` is changed: nothing, but where a measurement is tried out."""

    side: int
    model: str = "{}"  # JSON, so that a process of its own can be told

    def config(self, **more: Any) -> SegmenterConfig:
        from bench.presets import resolve
        from mvl.config import SegmenterConfig

        changes = {"image": (self.side,) * 3} | json.loads(self.model) | more
        return SegmenterConfig.of(resolve("default", {"model": changes})["model"] | {"channels": 1, "classes": CLASSES})


#: 1,728 tokens of the preset `default`, whose patches are of 8³.
STEP = Size(96)


def ours(config: SegmenterConfig) -> nn.Module:
    """The segmenter without block."""
    from mvl.model import Segmenter

    return Segmenter(config)


def unetr(config: SegmenterConfig) -> nn.Module:
    """MONAI's parts as UNETR puts them together, for the same patch: its own class has patches of 16 and 216 tokens."""
    from mvl import references

    return with_flash(references.build("unetr", config, 16))


def unetr_of_16(config: SegmenterConfig) -> nn.Module:
    """MONAI's own class, whose ViT has an eighth of the tokens."""
    from monai.networks.nets.unetr import UNETR

    hidden = int(config.width * config.mlp_ratio)
    net = UNETR(1, CLASSES, config.image, hidden_size=config.width, mlp_dim=hidden, num_heads=config.heads)
    return with_flash(net)


def with_flash(net: nn.Module) -> nn.Module:
    """The same with flash attention in every block, which neither UNETR nor ViT has an argument for."""
    from monai.networks.blocks.selfattention import SABlock

    for module in net.modules():
        if isinstance(module, SABlock):
            module.use_flash_attention = True
    return net


def our_loss(logits: Tensor, label_BXYZ: Tensor) -> Tensor:
    from mvl.loss import dice_ce_loss

    return dice_ce_loss(logits, label_BXYZ)


def their_loss(logits: Tensor, label_BXYZ: Tensor) -> Tensor:
    from monai.losses.dice import DiceCELoss

    return DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)(logits, label_BXYZ[:, None])


WAYS: dict[str, tuple[Callable[[SegmenterConfig], Any], Callable[[Tensor, Tensor], Tensor]]] = {
    "ours": (ours, our_loss),
    "peer": (unetr, their_loss),
    "peer of 16": (unetr_of_16, their_loss),
}


def crop_of(side: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Noise, and a label that can be learned from it."""
    import torch

    image = torch.randn(batch, 1, *(side,) * 3, generator=torch.Generator().manual_seed(0))
    return image, ((image > 0.5).long() + (image > 1.5).long())[:, 0]


def step_of(way: str, size: Size, rate: float = 3e-4) -> Callable[[], float]:
    """A training step on one crop: forward, loss, backward, optimizer. It returns the loss."""
    import torch

    build, loss_of = WAYS[way]
    torch.manual_seed(0)
    model = build(size.config())
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, fused=True)
    image, label = crop_of(size.side)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(image), label)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def give_back_at_once() -> None:
    """Let freed memory go back to the system: the peak is then what was held, not what malloc keeps for later."""
    threshold = -3  # M_MMAP_THRESHOLD
    if not getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(threshold, 1 << 16):
        raise CannotMeasure("this system's malloc cannot be told to give memory back at once")
