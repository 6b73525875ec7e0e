"""LoRA on a frozen block."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from backbones.block import Block, FrozenBlock


def with_lora(block: FrozenBlock, rank: int, seed: int = 0) -> Block:
    """The same block with trainable matrices A and B of this rank beside each of its linear layers.

    B is zero, so that it starts as the frozen block; A is drawn from the seed, and the global random state stays as it
    was. The matrices are kept in fp32, as small steps would vanish in bf16; their scale is 1 (alpha = rank). It takes
    over the layer: use the given block no more. ValueError for a rank below 1.
    Source: Hu et al., arXiv 2106.09685; Hugging Face PEFT.
    """
    if rank < 1:
        raise ValueError(f"block.lora_rank: must be at least 1, not {rank}")
    from peft import LoraConfig, inject_adapter_in_model

    linear = {name: part for name, part in block.layer.named_modules() if isinstance(part, (nn.Linear, Conv1D))}
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=list(linear),
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in linear.values()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, block.layer)
    for parameter in block.layer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return Block(block.layer, block.width, block.context, block.checkpointing)
