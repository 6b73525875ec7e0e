"""Every reference model keeps one contract; the sizes are those of their sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvl import references
from mvl.config import SegmenterConfig
from mvl.references.dynunet import halvings
from mvl.references.fitted import fit

SIDES = st.integers(1, 40)


def config(**changes: object) -> SegmenterConfig:
    sizes = {"image": (16, 16, 16), "patch": (4, 4, 4), "width": 16, "depth": 2, "heads": 2}
    return SegmenterConfig(**({"channels": 2, "classes": 3} | sizes | changes))


def built(name: str, seed: int = 0, **changes: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    return references.build(name, config(**changes), references.REGISTRY[name].small)


@pytest.fixture(params=references.REGISTRY)
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("size", [(9, 17, 20), (5, 8, 3)])
def test_logits_have_the_size_of_the_image_in_training_and_in_evaluation(name, size):
    model, image = built(name), torch.randn(1, 2, *size)
    for state in (True, False):
        with torch.no_grad():
            logits = model.train(state)(image)
        assert logits.shape == (1, 3, *size) and logits.isfinite().all()


def test_a_thin_image_is_continued_by_its_edge_as_the_segmenter_continues_it(name):
    model, image = built(name).eval(), torch.randn(1, 2, 9, 17, 3) + 5  # far from zero, so that zeros would be seen
    x, y, z = image.shape[2:]
    beyond = [(0, new - side) for new, side in zip(fit((x, y, z), model.step, model.least), (x, y, z), strict=True)]
    padded = torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), *beyond], mode="edge"))
    with torch.no_grad():
        torch.testing.assert_close(model(image), model.net(padded)[..., :x, :y, :z])


def test_gradient_reaches_every_parameter(name):
    model = built(name)
    model(torch.randn(1, 2, 16, 16, 16)).square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


def test_a_seed_is_one_model_and_another_seed_another(name):
    one, same, other = built(name), built(name), built(name, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_dropout_is_for_training_alone(name):
    model, image = built(name, dropout=0.5), torch.randn(1, 2, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.eval()(image), model(image))
        model.train()
        assert torch.equal(model(image), model(image)) == ("dropout" not in references.REGISTRY[name].reads)


def test_a_stored_state_is_read_into_the_same_model(name, tmp_path):
    from safetensors.torch import load_file, save_file

    one, other, image = built(name).eval(), built(name, seed=1).eval(), torch.randn(1, 2, 16, 16, 16)
    save_file(one.state_dict(), tmp_path / "model.safetensors")  # refuses tensors that are there twice
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(one(image), other(image))


def test_a_crop_that_is_no_cube_and_a_patch_that_is_none(name):
    model = built(name, image=(20, 16, 8), patch=(8, 8, 2))
    assert model(torch.randn(1, 2, 20, 16, 8)).shape == (1, 3, 20, 16, 8)


def test_another_batch_does_not_change_a_sample(name):
    model, image = built(name).eval(), torch.randn(2, 2, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(image)[:1], model(image[:1]), rtol=1e-3, atol=1e-5)


def test_features_are_those_of_the_sources_or_a_quarter():
    published, small = references.features(small=False), references.features(small=True)
    assert published == {"dynunet": 32, "segresnet": 32, "swinunetr": 48, "unetr": 16}
    assert {name: published[name] // small[name] for name in small} == {
        "dynunet": 4, "segresnet": 4, "swinunetr": 4, "unetr": 1,
    }  # fmt: skip
    for values in (published, small):
        references.check(values)
    with pytest.raises(ValueError, match=r"reference.swinunetr: 20 is not a positive multiple of 12"):
        references.check(small | {"swinunetr": 20})


@pytest.mark.parametrize("patch", [4, 8, 16])
def test_unetr_has_the_vit_of_the_preset(patch):
    """Parameters of the encoder by hand: patch embedding, positions, blocks without query bias, the last norm."""
    width, depth, channels = 24, 3, 2
    model = built("unetr", image=(32, 32, 32), patch=(patch,) * 3, width=width, depth=depth)
    embed = channels * patch**3 * width + width + (32 // patch) ** 3 * width
    attention = 3 * width * width + width * width + width
    mlp = 2 * 4 * width * width + 4 * width + width
    block = attention + mlp + 2 * 2 * width
    assert sum(p.numel() for p in model.net.vit.parameters()) == embed + depth * block + 2 * width
    assert len(model.net.ups) == math.log2(patch)


def test_unetr_with_patches_of_16_and_twelve_blocks_is_monais():
    from monai.networks.nets.unetr import UNETR

    theirs = UNETR(2, 3, (32, 32, 32), feature_size=4, hidden_size=24, mlp_dim=96, num_heads=2).eval()
    torch.manual_seed(1)
    sizes = config(image=(32, 32, 32), patch=(16, 16, 16), width=24, depth=12)
    ours = references.build("unetr", sizes, 4).eval()
    assert [p.shape for p in ours.parameters()] == [p.shape for p in in_our_order(theirs)]
    for mine, other in zip(ours.parameters(), in_our_order(theirs), strict=True):
        mine.data.copy_(other.data)
    image = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-5)


def in_our_order(theirs: torch.nn.Module) -> list[torch.nn.Parameter]:
    parts = (theirs.vit, theirs.encoder1, theirs.encoder2, theirs.encoder3, theirs.encoder4)
    decoders = (theirs.decoder5, theirs.decoder4, theirs.decoder3, theirs.decoder2, theirs.out)
    every = [named for part in (*parts, *decoders) for named in part.named_parameters()]
    return [parameter for name, parameter in every if "cross_attn" not in name]  # theirs are used by nothing


@settings(max_examples=60)
@given(st.tuples(*[st.integers(1, 200)] * 3))
def test_halvings_follow_the_rule_of_nnu_net(image):
    strides = halvings(image)
    assert 2 <= len(strides) <= 5
    for axis, side in enumerate(image):
        count = sum(stride[axis] == 2 for stride in strides)
        if max(image) >= 16:  # what is smaller gets two halvings, since DynUNet has no fewer
            assert math.ceil(side / 2**count) >= min(side, 4)


def test_nnu_nets_plan_of_a_cube_of_128():
    assert halvings((128, 128, 128)) == [(2, 2, 2)] * 5
    net = built("dynunet", image=(128, 128, 128)).net
    assert net.filters == [8, 16, 32, 64, 80, 80]


@given(st.tuples(SIDES, SIDES, SIDES), st.tuples(SIDES, SIDES, SIDES), st.tuples(SIDES, SIDES, SIDES))
def test_what_is_fitted_is_the_least_multiple_that_holds_both(size, step, least):
    for found, side, by, low in zip(fit(size, step, least), size, step, least, strict=True):
        assert found % by == 0 and found >= max(side, low) > found - by


def test_names_are_asked_for_once_and_all_is_every_one():
    assert references.chosen(["unetr", "unetr", "dynunet"]) == ("unetr", "dynunet")
    assert references.chosen(["all"]) == tuple(references.REGISTRY)
    with pytest.raises(ValueError, match=r"unknown reference 'untr'; did you mean 'unetr'\? available: all, dynunet"):
        references.chosen(["untr"])


def test_settings_are_the_crop_and_what_the_model_reads():
    model = {"image": (16, 16, 16), "patch": (4, 4, 4), "width": 64, "depth": 4, "heads": 2, "mlp_ratio": 4.0}
    model |= {"dropout": 0.0, "attention": "hybrid"}
    values = references.features(small=True)
    assert references.model_settings("segresnet", model, values) == {
        "image": (16, 16, 16), "patch": (4, 4, 4), "features": 8,
    }  # fmt: skip
    assert references.model_settings("unetr", model, values).keys() == model.keys() - {"attention"} | {"features"}
