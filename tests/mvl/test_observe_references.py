"""What is seen of a reference model is what its bare network makes, in the place of the image where it makes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvl import references
from mvl.observe import observed
from mvl.references.fitted import fit
from tests.mvl.test_references import built


def _deepest_of_dynunet(net: nn.Module, image: Tensor) -> Tensor:
    level = net.skip_layers
    while hasattr(level, "downsample"):
        level, image = level.next_layer, level.downsample(image)
    return level(image)


def _last_tokens_of_unetr(net: nn.Module, image: Tensor) -> Tensor:
    tokens_BND = net.vit(image)[1][-1]  # before its last norm
    return tokens_BND.transpose(1, 2).unflatten(2, [side // 4 for side in image.shape[2:]])


#: The end of each encoder, (B, D, U, V, W), by MONAI's own functions.
BY_HAND = {
    "dynunet": _deepest_of_dynunet,
    "segresnet": lambda net, image: net.encode(image)[0],
    "swinunetr": lambda net, image: net.swinViT(image, normalize=False)[4],
    "unetr": _last_tokens_of_unetr,
}


@pytest.mark.parametrize("name", references.REGISTRY)
def test_the_energy_is_that_of_the_bare_networks_encoder(name):
    model, image = built(name).eval(), torch.randn(2, 2, 13, 16, 9)
    beyond = [(0, new - old) for new, old in zip(fit((13, 16, 9), model.step, model.least), (13, 16, 9), strict=True)]
    padded = torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), *beyond], mode="edge"))
    with torch.no_grad(), observed(model) as passes:
        logits = model(image)
    (seen,) = passes
    with torch.no_grad():
        torch.testing.assert_close(seen.energy["encoder"], BY_HAND[name](model.net, padded).abs().mean(1))
        assert torch.equal(model(image), logits) and len(passes) == 1
    assert list(seen.energy) == ["encoder"] and not seen.amplification
    covered = tuple(side * cell for side, cell in zip(seen.energy["encoder"].shape[1:], seen.cell, strict=True))
    assert covered == padded.shape[2:]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize("name", references.REGISTRY)
def test_only_attention_over_all_tokens_has_an_entropy(name):
    model = built(name, depth=3).eval()
    with torch.no_grad(), observed(model) as passes:
        model(torch.randn(1, 2, 16, 16, 16))
    assert len(passes[0].entropy) == (3 if name == "unetr" else 0)
    assert all(0 < value <= 1 for value in passes[0].entropy)


def test_unetrs_entropy_is_that_of_the_weights_that_monai_keeps():
    model, image = built("unetr").eval(), torch.randn(1, 2, 16, 16, 16)
    with torch.no_grad(), observed(model) as passes:
        model(image)
    for block in model.net.vit.blocks:
        block.attn.use_flash_attention, block.attn.save_attn = False, True
    with torch.no_grad():
        model(image)
    weights = [block.attn.att_mat for block in model.net.vit.blocks]
    expected = [float(torch.special.entr(p).sum(-1).mean() / np.log(p.shape[-1])) for p in weights]
    assert passes[0].entropy == pytest.approx(expected, rel=1e-4)
