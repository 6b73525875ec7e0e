"""The segmenter's settings, checked when they are made. No torch: a plan can be drawn without it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

Size3 = tuple[int, int, int]

CHOICES = {
    "attention": ("global", "hybrid"),
    "fusion": ("none", "multiscale"),
    "fusion_kernel": (1, 3),
    "stem": ("linear", "conv"),
    "decoder": ("linear", "skip", "subpixel"),
    "placement": ("after", "middle", "before", "before+middle", "before+after", "middle+after"),
}

#: The least value of each setting that counts something.
LEAST = {
    **dict.fromkeys(("channels", "width", "depth", "heads", "decoder_width", "decoder_depth"), 1),
    "mapper_lora": 0,
}


@dataclass(frozen=True)
class SegmenterConfig:
    """Sizes and switches of the segmenter; everything but channels and classes is the same for all tasks.

    image is the crop the model is trained on, in voxels: other sizes work too, the position embedding is interpolated.
    placement says where the block stands: `after` the encoder (the paper's figure), in the `middle`, `before` it, or
    at two of these places, as `middle+after`: one block twice, or two blocks, with mappers of their own at each.
    residual adds the block's input to its output. mapper_lora is the rank of LoRA on the two linear maps around the
    block (the paper: 4); 0 trains them whole. classes counts the background. stem `conv` adds features of a small
    convolutional encoder to the linear patch embedding, and makes the decoder's skips of them (`mvl/skips.py`).
    decoder_width is the number of channels at full resolution of the decoders with skips, decoder_depth the number of
    convolutions at each resolution, of the decoder and of the skips. fusion_kernel, 1 or 3, is that of the maps of the
    coarse scales. Source of the architecture: arXiv 2410.02458.
    """

    channels: int
    classes: int
    image: Size3 = (32, 32, 32)
    patch: Size3 = (4, 4, 4)
    width: int = 96
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    attention: str = "hybrid"
    fusion: str = "multiscale"
    fusion_kernel: int = 1
    stem: str = "linear"
    decoder: str = "skip"
    decoder_width: int = 16
    decoder_depth: int = 1
    placement: str = "after"
    residual: bool = True
    mapper_lora: int = 0

    def __post_init__(self) -> None:
        for name in ("image", "patch"):
            object.__setattr__(self, name, tuple(int(side) for side in getattr(self, name)))
            if len(getattr(self, name)) != 3 or min(getattr(self, name)) < 1:
                raise ValueError(f"model.{name}: {getattr(self, name)!r} is not three positive whole numbers")
        self._check_values()
        if self.classes < 2:
            raise ValueError(f"classes: {self.classes} leaves no foreground; at least 2 are needed")
        if self.width % self.heads:
            raise ValueError(f"model.width: {self.width} is not divisible by model.heads {self.heads}")

    def _check_values(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                words = ", ".join(map(str, known))
                raise ValueError(f"model.{name}: unknown value {getattr(self, name)!r}; known: {words}")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"model.{name}: {getattr(self, name)!r} is not a whole number from {least}")
        if not 1 <= self.width * self.mlp_ratio < math.inf:
            raise ValueError(f"model.mlp_ratio: {self.mlp_ratio} leaves the MLP no number of hidden units")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout: {self.dropout} is outside [0, 1)")

    @property
    def grid(self) -> Size3:
        """Tokens per axis of a training crop; a last partial patch counts as one."""
        x, y, z = (-(-side // patch) for side, patch in zip(self.image, self.patch, strict=True))
        return x, y, z

    @property
    def places(self) -> dict[str, int]:
        """Where the block stands -> after how many encoder blocks; one or two, in the order of the way."""
        depths = {"before": 0, "middle": self.depth // 2, "after": self.depth}
        return {place: depths[place] for place in self.placement.split("+")}

    def fitted(self, shapes: Iterable[Size3]) -> SegmenterConfig:
        """The same with a crop that fits these volumes and has no more voxels.

        No side is longer than the largest volume's, to the nearest multiple of the patch: padding teaches nothing.
        What a short side saves, the others get, for an organ is told from its surroundings.
        """
        largest = [max(sides) for sides in zip(*shapes, strict=True)]
        limits = [max(1, round(side / patch)) * patch for side, patch in zip(largest, self.patch, strict=True)]
        sides = [min(pair) for pair in zip(self.image, limits, strict=True)]
        free = [axis for axis in range(3) if sides[axis] < limits[axis]]
        growth = (math.prod(self.image) / math.prod(sides)) ** (1 / len(free)) if free else 1.0
        for axis in free:
            patch = self.patch[axis]
            sides[axis] = min(limits[axis], max(sides[axis], int(sides[axis] * growth) // patch * patch))
        return replace(self, image=(sides[0], sides[1], sides[2]))

    @classmethod
    def names(cls) -> set[str]:
        """The settings' names, for those who read them from a file."""
        return {item.name for item in fields(cls)}

    @classmethod
    def of(cls, settings: dict[str, Any]) -> SegmenterConfig:
        """From plain values; ValueError names what is unknown."""
        unknown = sorted(set(settings) - cls.names())
        if unknown:
            raise ValueError(f"unknown model settings: {', '.join(unknown)}; known: {', '.join(sorted(cls.names()))}")
        return cls(**settings)
