"""Crops: the same index gives the same crop, whoever asks; what a crop holds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from bench.data.crops import CropSampler
from bench.data.folder import open_task
from bench.data.loader import batches
from bench.data.preparation import fit_preparation
from bench.data.volumes import PreparedCase, prepare_case


@pytest.fixture(scope="module")
def prepared(tiny_msd: Path) -> list[PreparedCase]:
    folder = open_task(tiny_msd, "Task99_Tiny")
    preparation = fit_preparation(folder.cases, (True,))
    return [prepare_case(case, preparation) for case in folder.cases]


def test_shapes_and_types(prepared: list[PreparedCase]) -> None:
    image, label = CropSampler(prepared, (8, 12, 16), seed=0).sample(3)
    assert image.shape == (1, 8, 12, 16)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert label.shape == (8, 12, 16)
    assert label.dtype == np.uint8
    assert label.flags.c_contiguous
    assert image.flags.writeable
    assert label.flags.writeable


def test_depends_on_seed_and_index_alone(prepared: list[PreparedCase]) -> None:
    forth = CropSampler(prepared, (8, 8, 8), seed=1)
    back = CropSampler(prepared, (8, 8, 8), seed=1)
    crops = [forth.sample(index) for index in range(12)]
    for index in reversed(range(12)):
        for a, b in zip(crops[index], back.sample(index), strict=True):
            np.testing.assert_array_equal(a, b)
    other = CropSampler(prepared, (8, 8, 8), seed=2)
    assert not any(np.array_equal(other.sample(index)[0], crops[index][0]) for index in range(12))
    assert not any(np.array_equal(crops[0][0], crop[0]) for crop in crops[1:])


def test_each_round_visits_each_case_once(prepared: list[PreparedCase]) -> None:
    sampler = CropSampler(prepared, (8, 8, 8), seed=0)
    rounds = [[sampler._case_of(6 * turn + place) for place in range(6)] for turn in range(4)]
    assert all(sorted(visited) == list(range(6)) for visited in rounds)
    assert len({tuple(visited) for visited in rounds}) > 1


def test_without_augmentation_a_crop_is_a_box_of_its_case(prepared: list[PreparedCase]) -> None:
    sampler = CropSampler(prepared, (20, 20, 20), seed=0, augment="none")
    for index in range(6):
        case = prepared[sampler._case_of(index)]
        image, label = sampler.sample(index)
        np.testing.assert_array_equal(image, case.image())
        np.testing.assert_array_equal(label, case.label())


def test_a_small_volume_is_whole_and_continued_by_its_edge(prepared: list[PreparedCase]) -> None:
    sampler = CropSampler(prepared, (32, 20, 24), seed=0, augment="none")
    image, label = sampler.sample(0)
    case = prepared[sampler._case_of(0)]
    x, z = (next(k for k in range(free + 1) if fits(case, image, axis, k)) for axis, free in ((1, 12), (3, 4)))
    beyond = ((x, 12 - x), (0, 0), (z, 4 - z))
    np.testing.assert_array_equal(image, np.pad(case.image(), ((0, 0), *beyond), mode="edge"))
    np.testing.assert_array_equal(label, np.pad(case.label(), beyond, mode="edge"))


def fits(case: PreparedCase, image: np.ndarray, axis: int, first: int) -> bool:
    """Whether the volume stands at this place along an axis of a crop: its means over the other axes vary alike."""
    others = tuple(a for a in range(4) if a != axis)
    whole = case.image()
    inside = [slice(None)] * 4
    inside[axis] = slice(first, first + whole.shape[axis])
    crop, volume = image[tuple(inside)].max(others), whole.max(others)
    return bool(np.array_equal(crop, volume))


def test_foreground_share_and_labels_alike(prepared: list[PreparedCase]) -> None:
    always = CropSampler(prepared, (3, 3, 3), seed=0, foreground=1.0, augment="none")
    labels = [always.sample(index)[1] for index in range(120)]
    assert all(label.any() for label in labels)
    # the dot is a hundredth of the volume; half of the crops are centred on it
    assert sum((label == 2).any() for label in labels) >= 45
    never = CropSampler(prepared, (3, 3, 3), seed=0, foreground=0.0, augment="none")
    assert sum(never.sample(index)[1].any() for index in range(120)) < 60


def test_flips_move_image_and_label_together(prepared: list[PreparedCase]) -> None:
    plain = CropSampler(prepared, (20, 20, 20), seed=4, flips=(), augment="light")
    flipped = CropSampler(prepared, (20, 20, 20), seed=4, flips=(0,), augment="light")
    seen = set()
    for index in range(12):
        case = prepared[plain._case_of(index)]
        np.testing.assert_array_equal(plain.sample(index)[1], case.label())
        image, label = flipped.sample(index)
        turned = not np.array_equal(label, case.label())
        seen.add(turned)
        expected = np.flip(case.image(), 1) if turned else np.asarray(case.image())
        np.testing.assert_array_equal(label, np.flip(case.label(), 0) if turned else case.label())
        assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.95
    assert seen == {True, False}


def test_what_cannot_be_sampled(prepared: list[PreparedCase]) -> None:
    with pytest.raises(ValueError, match="no case"):
        CropSampler([], (8, 8, 8), seed=0)
    with pytest.raises(ValueError, match="crop size"):
        CropSampler(prepared, (8, 0, 8), seed=0)
    with pytest.raises(ValueError, match="unknown augmentation 'strong'; known: none, light, full"):
        CropSampler(prepared, (8, 8, 8), seed=0, augment="strong")


@pytest.mark.parametrize("augment", ["none", "light", "full"])
def test_a_foreground_crop_holds_foreground_whatever_the_augmentation(
    prepared: list[PreparedCase], augment: str
) -> None:
    sampler = CropSampler(prepared, (5, 6, 7), seed=3, foreground=1.0, augment=augment)
    assert all(sampler.sample(index)[1].any() for index in range(60))


def test_mirroring_needs_no_other_augmentation(prepared: list[PreparedCase]) -> None:
    sampler = CropSampler(prepared, (20, 20, 20), seed=4, flips=(0, 1, 2), augment="none")
    seen = set()
    for index in range(12):
        case = prepared[sampler._case_of(index)]
        image, label = sampler.sample(index)
        turned = [
            axes
            for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
            if np.array_equal(np.flip(case.label(), axes), label)
        ]
        assert len(turned) == 1
        np.testing.assert_array_equal(image, np.flip(case.image(), tuple(axis + 1 for axis in turned[0])))
        seen.add(turned[0])
    assert len(seen) > 2


@pytest.mark.parametrize("augment", ["light", "full"])
def test_batches_are_the_same_whatever_threads_and_workers(prepared: list[PreparedCase], augment: str) -> None:
    sampler = CropSampler(prepared, (8, 9, 10), seed=5, flips=(0,), augment=augment)
    alone = list(islice(batches(sampler, batch=4, threads=0), 5))
    assert [image.shape for image, _ in alone] == [(4, 1, 8, 9, 10)] * 5
    for threads in (1, 3):
        for ours, theirs in zip(alone, batches(sampler, 4, threads=threads), strict=False):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
    shares = [list(islice(batches(sampler, 4, rank, workers=2), 5)) for rank in range(2)]
    for whole, first, second in zip(alone, *shares, strict=True):
        np.testing.assert_array_equal(whole[0], np.concatenate([first[0], second[0]]))
    np.testing.assert_array_equal(next(batches(sampler, 4, first=3))[0], alone[3][0])
    with pytest.raises(ValueError, match="3 workers cannot share a batch of 4"):
        next(batches(sampler, 4, workers=3))


def test_a_loader_passes_on_errors_and_ends_its_threads(prepared: list[PreparedCase]) -> None:
    import threading

    class Broken(CropSampler):
        def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            if index == 3:
                raise OSError("the disk is gone")
            return super().sample(index)

    loader = batches(Broken(prepared, (4, 4, 4), seed=0), batch=1, threads=2)
    with pytest.raises(OSError, match="the disk is gone"):
        list(loader)
    early = batches(CropSampler(prepared, (4, 4, 4), seed=0), batch=1, threads=2)
    next(early)
    early.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("crops")]


def digest_of_crops(root: str, threads: int) -> str:
    """What another process makes of the same data: prepared there, in a cache folder of its own."""
    folder = open_task(Path(root), "Task99_Tiny")
    preparation = fit_preparation(folder.cases[:4], (True,), 4000)
    cases = [prepare_case(case, preparation) for case in folder.cases]
    sampler = CropSampler(cases, (8, 9, 10), seed=7, flips=(0,), augment="full")
    digest = hashlib.sha256(preparation.digest.encode())
    for image, label in islice(batches(sampler, 2, threads=threads), 12):
        digest.update(image.tobytes() + label.tobytes())
    return digest.hexdigest()


def test_other_processes_prepare_and_cut_the_same(tiny_msd: Path, tmp_path: Path) -> None:
    found = set()
    for number in (0, 3):
        code = f"import sys; from tests.data.test_crops import digest_of_crops as d; print(d(sys.argv[1], {number}))"
        environment = os.environ | {"PYTHONHASHSEED": str(number + 1), "BENCH_CACHE": str(tmp_path / str(number))}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tiny_msd)], env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout.split()[-1])
    assert found == {digest_of_crops(str(tiny_msd), threads=1)}
