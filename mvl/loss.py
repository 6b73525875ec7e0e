"""Soft Dice and cross-entropy. Nothing is thresholded, so both have a gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dice_ce_loss(logits_BKXYZ: Tensor, label_BXYZ: Tensor) -> Tensor:
    """Cross-entropy plus one minus the soft Dice, averaged over samples and foreground classes.

    logits float (B, K, X, Y, Z); label int64 (B, X, Y, Z) with values below K. A scalar, in fp32.
    Both terms are means over samples, so that two workers with half the batch each get one worker's gradient.
    A class that a sample does not hold is left to the cross-entropy there: its Dice could only say "predict nothing",
    and would say it loudest for the rarest class. Source: Isensee et al. 2021 (nnU-Net), with softmax.
    """
    logits_BKXYZ = logits_BKXYZ.float()
    classes = logits_BKXYZ.shape[1]
    probability = logits_BKXYZ.softmax(dim=1)[:, 1:]
    reference = F.one_hot(label_BXYZ, classes).movedim(-1, 1)[:, 1:].to(probability.dtype)
    axes = (2, 3, 4)
    sizes_BK = reference.sum(axes)
    dice_BK = 2 * (probability * reference).sum(axes) / (probability.sum(axes) + sizes_BK).clamp_min(1e-6)
    return F.cross_entropy(logits_BKXYZ, label_BXYZ) + ((1 - dice_BK) * (sizes_BK > 0)).mean()


@torch.no_grad()
def batch_dice(logits_BKXYZ: Tensor, label_BXYZ: Tensor) -> tuple[Tensor, Tensor]:
    """Hard-Dice counts of a batch: (2 * overlap, sizes), each (K - 1,), to be added up over an epoch."""
    classes = logits_BKXYZ.shape[1]
    predicted = logits_BKXYZ.max(dim=1).indices  # argmax over this axis is fifty times slower on a CPU
    joint = torch.bincount((label_BXYZ * classes + predicted).flatten(), minlength=classes**2).view(classes, classes)
    return 2.0 * joint.diagonal()[1:], (joint.sum(0) + joint.sum(1))[1:].double()
