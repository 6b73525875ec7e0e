"""Activation maps: on the preview's slice, with the energy of known tokens, and only where they are asked for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.activations import Look, blended, on_slice
from bench.evaluate import Inference, predict
from bench.study import StudySpec
from bench.trial import attempt
from mvl.observe import observed
from mvl.references import REGISTRY
from reports import activations
from reports.shown import shown_trials
from results.summary import trial_table
from tests.bench.trial_room import SMALL, held_out, jobs_of
from tests.mvl.test_references import built
from tests.mvl.test_segmenter import Block, tiny


@pytest.fixture
def study(tiny_msd, tmp_path) -> StudySpec:
    return StudySpec(
        backbones=("gpt2",), data=str(tiny_msd), weights={"*": "random"}, controls=("mlp",), settings=SMALL,
        out=str(tmp_path / "run"),
    )  # fmt: skip


def test_every_arm_keeps_maps_on_the_previews_slice_and_the_report_reads_them(study):
    short = SMALL | {"train": {"steps": 1, "epochs": 1}}  # SwinUNETR fills every crop up to 32³
    jobs = jobs_of(replace(study, references=tuple(REGISTRY), settings=short))
    records = [attempt(job, lambda entry, share: None) for job in jobs]
    assert [record.error for record in records] == [""] * len(jobs)
    for job in jobs:
        kept, preview = (
            np.load(study.run / kind / f"{job.spec.key}.npz", allow_pickle=False)
            for kind in ("activations", "previews")
        )
        assert kept["cases"].tolist() == sorted(held_out(job))[:2]
        names = preview["cases"].tolist()
        stages = {"encoder"} if job.spec.control in ("none", "reference") else {"before", "block", "encoder"}
        blocks = 0 if job.spec.backbone in {"dynunet", "segresnet", "swinunetr"} else 2
        for number, case in enumerate(kept["cases"].tolist()):
            image = preview[f"image_{names.index(case)}"]
            assert {name.split("_")[0] for name in kept.files} - {"cases", "entropy", "amplification"} == stages
            for stage in stages:
                energy = kept[f"{stage}_{number}"]
                assert energy.shape == image.shape and energy.dtype == np.float32
                assert np.isfinite(energy).all() and energy.max() > energy.min() >= 0
            assert kept[f"entropy_{number}"].shape == (blocks,) and (kept[f"entropy_{number}"] > 0).all()
            assert (kept[f"entropy_{number}"] <= 1).all()
            assert kept[f"amplification_{number}"].shape == ((1,) if job.spec.control == "random" else (0,))
    trials = trial_table(records)
    (task,), problems = activations.read(study.run, shown_trials(records, trials), trials)
    assert [one.arm for one in task.arms] == trials["arm"].tolist() and not problems
    rows = {row[0].text: row[1].text for row in activations.table([task]).groups[0].rows}
    assert rows["segresnet (reference)"] == "–" and 0 < float(rows["unetr (reference)"]) <= 1


def test_none_are_kept_where_none_are_asked_for_and_no_number_changes(study):
    (first, *_), (second, *_) = jobs_of(study), jobs_of(replace(study, activations=0, out=f"{study.out}-2"))
    assert first.spec.digest == second.spec.digest
    records = [attempt(job, lambda entry, share: None) for job in (first, second)]
    assert records[0].cases == records[1].cases and records[0].curve == records[1].curve
    assert not (study.run.parent / "run-2" / "activations").exists()


def look(model, image: np.ndarray, window=(8, 8, 8), **more) -> Look:
    how = Inference(window, 0.5, **more)
    with observed(model) as passes:
        list(predict(model, image, how, "a case"))
    return blended(passes, image, how)


@pytest.mark.parametrize("more", [{"batch": 3}, {"mirror": "x"}, {"mirror": "xyz", "batch": 4}])
def test_batches_and_mirrored_copies_do_not_change_what_is_seen(more):
    model, image = tiny(Block()).eval(), np.random.default_rng(0).normal(size=(2, 13, 9, 6)).astype(np.float32)
    plain, other = look(model, image), look(model, image, **more)
    for stage, map_XYZ in plain.maps.items():
        np.testing.assert_allclose(other.maps[stage], map_XYZ, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other.amplification, plain.amplification, rtol=0.05)


@pytest.mark.parametrize("size", [(8, 8, 8), (13, 9, 6)])
def test_the_map_of_a_known_token_is_its_mean_magnitude(size):
    """An encoder whose last block gives what it is told to: every patch shows its token's energy."""
    model = tiny().eval()
    model.encoder[-1].forward = lambda x_BND, grid: torch.full_like(x_BND, -3.0)
    found = look(model, np.zeros((2, *size), np.float32))
    assert found.maps["encoder"].shape == size
    np.testing.assert_allclose(found.maps["encoder"], 3.0, rtol=1e-5)


def test_a_tokens_energy_lies_over_its_patch():
    model = tiny(Block()).eval()

    def one_token(x_BND, grid):
        out = torch.zeros_like(x_BND)
        out[:, 1] = 2.0  # token (0, 0, 1) of a grid of 2 x 2 x 2
        return out

    model.encoder[-1].forward = one_token
    found = look(model, np.zeros((2, 8, 8, 8), np.float32))
    expected = np.zeros((8, 8, 8))
    expected[:4, :4, 4:] = 2.0
    np.testing.assert_allclose(found.maps["encoder"], expected, atol=1e-6)
    np.testing.assert_allclose(found.maps["before"], expected, atol=1e-6)
    assert found.amplification.shape == (1,)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_place_of_a_references_deepest_features_lies_over_its_cell(name):
    """Its window is padded to whole cells: what hangs over is cut off."""
    size, model = (40, 48, 36), built(name).eval()

    def one_place(_, inputs, output):
        out = torch.zeros_like(output)
        u, v, w = (-(-side // step) for side, step in zip(size, model.step, strict=True))
        (out if out.dim() == 5 else out.mT.unflatten(2, (u, v, w)))[:, :, 1, 0, -1] = 2.0
        return out

    model.parts().end.register_forward_hook(one_place)  # before those of `observed`, which then see what it gives
    (x, y, z), expected = model.step, np.zeros(size)
    expected[x : 2 * x, :y, (size[2] - 1) // z * z :] = 2.0
    np.testing.assert_allclose(look(model, noise(size), size).maps["encoder"], expected, atol=1e-6)


@pytest.mark.parametrize("name", REGISTRY)
def test_what_changes_in_an_eighth_of_the_image_shows_there(name):
    """Redrawn, not made brighter: norms would carry a change of mean and spread everywhere."""
    size, model, octants = (
        (64, 64, 64),
        built(name).eval(),
        list(itertools.product((slice(32), slice(32, 64)), repeat=3)),
    )
    image = noise(size)
    before = look(model, image, size).maps["encoder"]
    image[:, *octants[4]] = noise((32, 32, 32), seed=1)
    change = np.abs(look(model, image, size).maps["encoder"] - before)
    assert max(octants, key=lambda one: change[one].mean()) == octants[4]


def noise(size, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, *size)).astype(np.float32)


def test_the_slice_is_turned_as_the_preview_turns_it():
    """A flipped and permuted native grid: the strong corner of the map lies over the strong corner of the image."""
    from bench.data.folder import Volume
    from bench.data.grid import Grid, from_ras, to_ras
    from bench.preview import Preview, pictured

    ras = np.zeros((8, 6, 5), np.float32)
    ras[5:, :2, 3] = 1.0
    affine = np.array([[0, -1.0, 0, 0], [0, 0, 1.0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    native = np.ascontiguousarray(from_ras(ras, affine))
    label = (native > 0).astype(np.uint8)
    preview = Preview()
    preview.add("a", pictured(Volume(native[None], label, affine, (1.0, 1.0, 2.0)), label))
    for box in (((0, 5), (0, 8), (0, 6)), ((2, 5), (0, 6), (0, 3))):
        grid = Grid(native.shape, tuple(map(tuple, affine)), box, ras.shape)
        kept = to_ras(native[grid.inside], affine)
        energy = on_slice(kept, grid, label)
        np.testing.assert_array_equal(energy > 0.5, preview.arrays["reference_0"] > 0)
