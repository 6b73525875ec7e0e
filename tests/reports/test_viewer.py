"""What trials keep for the case viewer, and which cases it holds."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import preview
from bench.data.folder import Volume
from reports import build, previews, shown, viewer
from results import summary
from tests.reports import seen
from tests.results import fake

SIZE = (14, 20, 9)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    return folder, seen.write_run(folder, tasks=2, cases=3, size=SIZE)


def collect(run, **limits):
    folder, made = run
    return viewer.collect([folder], made, shown.shown_trials(made, summary.trial_table(made)), **limits)


def volumes_of(case):
    """Image, reference and each arm's mask, unpacked as the page does it."""
    bytes_ = np.frombuffer(zlib.decompress(base64.b64decode(case.data)), np.uint8)
    return bytes_.reshape(2 + len(case.arms), *case.size)


def test_arms_share_one_image_a_case(run):
    folder, _ = run
    assert len(list((folder / "previews").rglob("volumes/*.npz"))) == 2 * 3
    assert len(list((folder / "previews" / "Task01_Fake").glob("*/*-*.npz"))) == 3


def test_the_viewer_holds_what_was_scored(run):
    found = collect(run)
    assert len(found.cases) == 6 and not found.crowded and not found.absent
    assert [case.spread for case in found.cases] == sorted((case.spread for case in found.cases), reverse=True)
    for case in found.cases:
        assert case.size == SIZE and case.spacing == seen.SPACING
        _, reference, *masks = volumes_of(case)
        for (_, dice), mask in zip(case.arms, masks, strict=True):
            ratios = [2 * ((mask == n) & (reference == n)).sum() / ((mask == n).sum() + (reference == n).sum())
                      for n in (1, 2) if ((mask == n) | (reference == n)).any()]  # fmt: skip
            assert dice == pytest.approx(np.mean(ratios), abs=1e-4)


def test_of_each_task_in_turn_and_the_rest_is_named(run):
    found = collect(run, most_cases=3)
    assert {case.task for case in found.cases} == {"Task01_Fake", "Task02_Fake"}
    assert sum(map(len, found.crowded.values())) == 3
    size = len(found.cases[0].data)
    tight = collect(run, most_bytes=size + 100)
    assert len(tight.cases) == 1 and sum(map(len, tight.crowded.values())) == 5
    page = viewer.render(tight, "title", "")
    assert "p0_case0" in page and "5</summary>" in page


def test_older_and_damaged_previews_are_not_in_it(tmp_path):
    made = fake.records(1)
    fake.write_run(tmp_path, made)  # slices only
    found = collect((tmp_path, made))
    assert not found.cases and found.absent == {"Task01_Fake": ["p0_case0", "p1_case1"]}
    page = build.write_report(tmp_path, command="x")
    assert not (page.parent / "viewer.html").exists() and "viewer.html" not in page.read_text()


def test_a_damaged_arm_or_image_takes_nothing_else_away(tmp_path):
    made = seen.write_run(tmp_path, cases=2, size=SIZE)
    previews.preview_path(tmp_path, made[1].spec.key).write_bytes(b"PK\x03\x04 cut short")
    found = collect((tmp_path, made))
    assert [[name for name, _ in case.arms] for case in found.cases] == [["none", "mistral (stand-in, random)"]] * 2
    for path in (tmp_path / "previews").rglob("volumes/*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    assert not collect((tmp_path, made)).cases


def test_a_volume_outside_the_run_is_not_read(tmp_path):
    made = seen.write_run(tmp_path, arms=(("none", "none"),), cases=1, size=SIZE)
    path = previews.preview_path(tmp_path, made[0].spec.key)
    with np.load(path) as arrays:
        changed = dict(arrays) | {"volume_0": np.array("../../../secret")}
    np.savez(path, **changed)
    with pytest.raises(previews.PreviewError, match="names no shared volume"):
        previews.volume_names(path)
    assert not collect((tmp_path, made)).cases


def test_names_cannot_end_the_script(run):
    found = collect(run)
    evil = "</script><script>alert(1)</script>"
    case = viewer.ViewerCase(evil, evil, 0.1, (evil,), SIZE, seen.SPACING, ((evil, None),), found.cases[0].data)
    page = viewer.render(viewer.Viewer((case,), {evil: [evil]}, {}), evil, evil)
    assert page.count("<script") == 3 and "<script>alert" not in page
    told = json.loads(re.search(r'id="facts">(.*?)</script>', page, re.DOTALL)[1])
    assert told["cases"][0]["arms"] == [[evil, None]]


@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3),
)
def test_block_means_keep_the_mean_and_centres_the_grid(shape, steps):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    even = tuple(slice(0, side - side % step) for side, step in zip(shape, steps, strict=True))
    coarse, label = preview.block_mean(image, steps), preview.block_centre(image % 7, steps)
    assert coarse.shape == label.shape == tuple(-(-side // step) for side, step in zip(shape, steps, strict=True))
    assert image.min() <= coarse.min() and coarse.max() <= image.max()
    if image[even].size:
        inner = preview.block_mean(image[even], steps)
        assert inner.mean(dtype=float) == pytest.approx(image[even].mean(dtype=float), rel=1e-4)
    assert set(np.unique(label)) <= set(range(7))


@given(st.tuples(*[st.integers(1, 700)] * 3), st.tuples(*[st.floats(0.3, 8)] * 3))
def test_a_volume_is_small_and_no_voxel_is_invented(shape, spacing):
    steps = preview.coarseness(shape, np.array(spacing))
    assert all(step >= 1 and -(-side // step) <= preview.VOLUME_SIDE for step, side in zip(steps, shape, strict=True))


@pytest.mark.parametrize("axes", ["LPS", "RAS"])
def test_pictures_are_in_the_body_s_axes(tmp_path, axes):
    label = np.zeros((6, 8, 4), np.uint8)
    label[0, 0, 0] = 1  # in RAS the first voxel lies left, back and low
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    if axes == "LPS":
        label, affine = label[::-1, ::-1], affine @ np.diag([-1, -1, 1, 1])
    kept = preview.Preview()
    kept.add("a", preview.pictured(Volume(label[None].astype(np.float32), label, affine, (1, 1, 2)), label))
    path = tmp_path / "task" / "arm" / "0-0-x.npz"
    kept.write(path)
    (number, name) = previews.volume_names(path)["a"]
    volume = previews.read_volume(path, name)
    assert volume.spacing == (1, 1, 2) and volume.reference_XYZ[0, 0, 0] == 1 == volume.reference_XYZ.sum()
    assert (previews.read_labels(path, number) == volume.reference_XYZ).all()
    (slice_,) = previews.read_slices(path).values()
    assert slice_.reference_HW[-1, 0] == 1 and slice_.image_HW.shape == (8, 6)


def test_one_report_of_several_folders(run, tmp_path):
    folder, made = run
    other = seen.write_run(tmp_path, tasks=1, arms=(("gpt2", "stand-in"),), cases=3, size=SIZE)
    both = [*made, *other]
    found = viewer.collect([folder, tmp_path], both, shown.shown_trials(both, summary.trial_table(both)))
    assert {len(case.arms) for case in found.cases} == {3, 4}
