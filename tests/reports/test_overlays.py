"""Previews and the figures made of them."""

import numpy as np
import pytest

from reports import cases
from results import summary
from tests.results import fake


@pytest.fixture
def run(tmp_path):
    made = fake.records(1)
    return fake.write_run(tmp_path, made), made, summary.trial_table(made)


def preview_path(folder, record):
    return folder / "previews" / f"{record.spec.key}.npz"


def test_slices_of_different_size_come_back_by_case(run):
    folder, made, _ = run
    slices = cases.read_preview(preview_path(folder, made[0]))
    assert list(slices) == ["p0_case0", "p1_case1"]
    assert [one.image_HW.shape for one in slices.values()] == [(48, 40), (56, 56)]
    assert [one.aspect for one in slices.values()] == [1.0, 1.5]


def test_a_row_an_arm(run):
    found, problems = cases.previews_of(*run)
    assert (
        list(found["Task01_Fake"]) == ["none", "llama3 (stand-in, random)", "mistral (stand-in, random)"]
        and not problems
    )
    figure = cases.overlay(found["Task01_Fake"], ("organ", "lesion"))
    assert len(figure.axes) == 3 * 3 * cases.SHOWN


def test_missing_and_damaged_previews_are_said(run):
    folder, made, trials = run
    preview_path(folder, made[0]).unlink()
    preview_path(folder, made[1]).write_bytes(b"PK\x03\x04 cut short")
    found, problems = cases.previews_of(folder, made, trials)
    assert len(problems) == 2
    assert "no preview file" in problems[0] and made[1].spec.digest in problems[1]
    assert cases.overlay(found["Task01_Fake"], ("organ", "lesion")) is not None


def test_arms_without_a_complete_trial_are_said(run):
    folder, made, _ = run
    failed = fake.failure(fake.spec("Task01_Fake", "gpt2", "stand-in"), fake.task())
    _, problems = cases.previews_of(folder, [*made, failed], summary.trial_table([*made, failed]))
    assert problems == ["Task01_Fake, gpt2 (stand-in, random): no complete trial"]


def test_nothing_to_show_is_no_figure():
    assert cases.overlay({"none": {}}, ("organ",)) is None


@pytest.mark.parametrize("change", ["shape", "aspect", "absent", "pickle"])
def test_a_wrong_preview_is_named(tmp_path, change):
    image = np.zeros((4, 4), np.uint8)
    arrays = {"cases": np.array(["a"]), "image_0": image, "reference_0": image, "prediction_0": image}
    arrays |= {"shape": {"prediction_0": image[:2]}, "aspect": {"aspect_0": np.float64(0)}}.get(change, {})
    if change == "absent":
        del arrays["reference_0"]
    if change == "pickle":
        arrays["image_0"] = np.array([{"not": "plain"}], dtype=object)
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(cases.PreviewError, match=r"wrong\.npz"):
        cases.read_preview(tmp_path / "wrong.npz")
