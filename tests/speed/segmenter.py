"""The segmenter: a training step against UNETR, its encoder against MONAI's ViT and bare products, bf16, and memory."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.speed.block import BF16_FLAGS, multiplies_bf16
from tests.speed.harness import CannotMeasure, Reading, alternate, fresh, measurement, value, versioned

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mvl.config import SegmenterConfig

CLASSES = 3
#: The sides of a crop, in voxels: 1,728 and 4,096 tokens of the preset `default`, whose patches are of 8³.
STEP_SIDE, ENCODER_SIDE = 96, 128
#: A step is this many times as fast as UNETR's; bare products take this share of the encoder; bf16 gains this much, and
#: moves the loss by this share; checkpointing takes this share of a step's peak.
FASTER, SHARE, GAIN, APART, CUT = 1.5, 0.70, 1.3, 0.02, 0.30
LOSS_STEPS = 50
_UNETR = "UNETR of {} around the same ViT, flash attention on"


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


STEP, ENCODER = Size(STEP_SIDE), Size(ENCODER_SIDE)


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


def crop_of(side: int) -> tuple[Tensor, Tensor]:
    """Noise, and a label that can be learned from it."""
    import torch

    image = torch.randn(1, 1, *(side,) * 3, generator=torch.Generator().manual_seed(0))
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


def check_learns(*steps: Callable[[], float]) -> None:
    """Both sides train: the loss on one crop falls."""
    for step in steps:
        first, *_, last = [step() for _ in range(3)]
        if not last < first:
            raise AssertionError(f"the loss of a side does not fall: {first:.4g}, then {last:.4g}")


def step_reading(size: Size, runs: int) -> Reading:
    from tests.speed.harness import seconds

    mine, theirs = step_of("ours", size), step_of("peer", size)
    check_learns(mine, theirs)
    our_time, peer_time = alternate(mine, theirs, runs)
    of_16 = step_of("peer of 16", size)
    of_16()
    other = min(seconds(of_16) for _ in range(min(runs, 3)))
    note = (
        f"{peer_time / our_time:.2f} times as fast; MONAI's own class, with patches of 16 and an eighth of the tokens: "
        f"{other:.3g} s, {other / our_time:.2f} times ours"
    )
    return Reading(our_time, peer_time, note)


@measurement(
    "segmenter-step",
    "training step at 96³, 1,728 tokens, width 384, 12 blocks: 1.5 times as fast as UNETR's",
    _UNETR.format(versioned("monai")),
    1 / FASTER,
)
def segmenter_step(runs: int) -> Reading:
    return step_reading(STEP, runs)


def give_back_at_once() -> None:
    """Let freed memory go back to the system: the peak is then what was held, not what malloc keeps for later."""
    threshold = -3  # M_MMAP_THRESHOLD
    if not getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(threshold, 1 << 16):
        raise CannotMeasure("this system's malloc cannot be told to give memory back at once")


def step_peak(way: str, side: str, model: str) -> int:
    """In a process of its own: by how much the model and two of its steps raise the peak of memory."""
    from tests.speed.weights import growth

    give_back_at_once()
    step_of(way, Size(16, json.dumps({"width": 16, "depth": 1, "heads": 1})))()  # for the imports

    def two_steps() -> Any:
        step = step_of(way, Size(int(side), model))
        step(), step()
        return step

    return growth(two_steps)


def peak_reading(size: Size, runs: int) -> Reading:
    sides = [lambda way=way: fresh(__name__, "step_peak", way, str(size.side), size.model) for way in ("ours", "peer")]
    return Reading(*alternate(*sides, runs, gauge=value, warm=False))


@measurement(
    "segmenter-step-memory",
    "the peak of memory of that step is not above UNETR's",
    _UNETR.format(versioned("monai")),
    1.0,
    unit="bytes",
)
def segmenter_step_memory(runs: int) -> Reading:
    return peak_reading(STEP, runs)


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


def step_in(precision: str, size: Size, rate: float = 3e-4) -> Callable[[], float]:
    """A training step of ours under autocast, or without."""
    import torch

    step = step_of("ours", size, rate)

    def run() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return step()

    return run


#: Where bf16 is emulated, a step is tried at this size, once, and decides nothing.
EMULATED = Size(32, json.dumps({"depth": 1}))
NO_BF16 = f"this CPU has none of {', '.join(sorted(BF16_FLAGS))} and emulates bf16; tried once, on a crop of 32³"


@measurement(
    "segmenter-bf16",
    "that step under bf16 autocast: 1.3 times as fast as in fp32, where the CPU multiplies bf16",
    f"the same step in fp32, {versioned('torch')}",
    1 / GAIN,
)
def segmenter_bf16(runs: int) -> Reading:
    decided = multiplies_bf16()
    runs, size = (runs, STEP) if decided else (1, EMULATED)
    mine, theirs = alternate(step_in("bf16", size), step_in("fp32", size), runs)
    return Reading(mine, theirs, "" if decided else "emulated", "" if decided else NO_BF16, runs)


#: Small enough to be trained where bf16 is emulated: the numbers are those of bf16 either way.
LEARNER = Size(24, json.dumps({"width": 32, "depth": 2, "heads": 2, "patch": [4, 4, 4]}))


def loss_after(precision: str, steps: int) -> float:
    step = step_in(precision, LEARNER, rate=3e-3)
    return [step() for _ in range(steps)][-1]


@measurement(
    "segmenter-bf16-loss",
    "the loss after 50 steps under bf16 autocast is within 2 % of fp32's, on a small crop",
    f"the same steps in fp32, {versioned('torch')}",
    APART,
    of="ours",
    unit="share",
)
def segmenter_bf16_loss(runs: int) -> Reading:
    bf16, fp32 = (loss_after(precision, LOSS_STEPS) for precision in ("bf16", "fp32"))
    note = f"losses {bf16:.5g} and {fp32:.5g}; emulated or not, the numbers are bf16's"
    return Reading(abs(bf16 - fp32) / fp32, None, note, runs=1, exact=True)


def with_block(size: Size, row: str, checkpointing: bool) -> nn.Module:
    """The segmenter around a random block of this row's shape, as a trial builds it."""
    import backbones
    from backbones import block
    from backbones.spec import BlockOptions
    from mvl.model import Segmenter

    spec = backbones.get(row)
    made = block.initialised(spec, spec.layer, 0, BlockOptions(checkpointing=checkpointing))
    return Segmenter(size.config(), made, checkpointing=checkpointing)


def block_step(model: nn.Module, size: Size) -> torch.optim.Optimizer:
    """One training step as the engine makes it; returns the optimizer with its state."""
    from bench.presets import TrainSettings
    from bench.schedule import make_optimizer

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(trained, TrainSettings())
    image, label = crop_of(size.side)
    our_loss(model(image), label).backward()
    optimizer.step()
    return optimizer


def held(tensors: Iterable[Tensor | None]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def frozen_bytes(size: Size, row: str) -> Reading:
    """Bytes of gradients and optimizer state that a step leaves for frozen weights, counted tensor by tensor."""
    import torch

    model = with_block(size, row, checkpointing=True)
    state = block_step(model, size).state
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def kept(parameters: list[Any]) -> int:
        states = [item for p in parameters for item in state.get(p, {}).values() if isinstance(item, torch.Tensor)]
        return held(p.grad for p in parameters) + held(states)

    if kept(trained) < 3 * held(trained):
        raise AssertionError("what is trained has a gradient and two moments; this count misses some")
    note = f"frozen weights: {held(frozen) / 1e6:.4g} MB; kept for {held(trained) / 1e6:.4g} MB of trained ones: "
    return Reading(kept(frozen), None, note + f"{kept(trained) / 1e6:.4g} MB", runs=1, exact=True)


@measurement(
    "segmenter-8b-frozen-bytes",
    "a step with a block of an 8B model leaves no gradient and no optimizer state for frozen weights",
    None,
    0,
    of="ours",
    unit="bytes",
)
def segmenter_8b_frozen_bytes(runs: int) -> Reading:
    return frozen_bytes(STEP, "llama3")


def block_step_peak(checkpointing: str, side: str, model: str, row: str) -> int:
    """In a process of its own: by how much the first step raises the peak, over what the model takes by itself."""
    from tests.speed.weights import growth

    give_back_at_once()
    size = Size(int(side), model)
    tried = Size(16, json.dumps({"width": 16, "depth": 1, "heads": 1}))
    block_step(ours(tried.config()), tried)  # for the imports
    built = with_block(size, row, checkpointing == "on")
    return growth(lambda: block_step(built, size))


def checkpointing_reading(size: Size, row: str, runs: int) -> Reading:
    on, off = (
        partial(fresh, __name__, "block_step_peak", way, str(size.side), size.model, row) for way in ("on", "off")
    )
    mine, theirs = alternate(on, off, runs, gauge=value, warm=False)
    return Reading(mine, theirs, f"checkpointing cuts the step's peak by {1 - mine / theirs:.0%}")


@measurement(
    "segmenter-8b-checkpointing",
    "checkpointing cuts the peak of a step with that block by at least 30 %, the model's own bytes aside",
    "the same step without checkpointing",
    1 - CUT,
    unit="bytes",
)
def segmenter_8b_checkpointing(runs: int) -> Reading:
    return checkpointing_reading(STEP, "llama3", runs)
