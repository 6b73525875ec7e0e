"""The phantom decathlon: MSD in name and layout, the same bytes every time, sound by our own check."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from bench.data.check import check_task
from bench.data.folder import open_task, read_case, task_names
from bench.data.phantom import phantom_root, write_phantom
from bench.data.tasks import DECATHLON


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("phantom"), cases=3)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_all_ten_tasks(phantom: Path) -> None:
    assert task_names(phantom) == [task.name for task in DECATHLON]
    for task in DECATHLON:
        folder = open_task(phantom, task.name)
        spec = folder.spec
        assert (spec.name, spec.modality, spec.channels, spec.labels) == (
            task.name,
            task.modality,
            task.channels,
            task.labels,
        )
        assert spec.origin == "phantom"
        assert "hantom" in spec.notice
        found = check_task(folder)
        assert found.problems == ()
        assert len(set(found.spacings.values())) == 3
        assert len(set(found.shapes.values())) > 1
        assert all(40 <= side <= 56 for shape in found.shapes.values() for side in shape)


@pytest.mark.parametrize("task", DECATHLON, ids=lambda task: task.name)
def test_every_label_is_there_and_overlaps_with_its_surroundings(phantom: Path, task: object) -> None:
    folder = open_task(phantom, task.name)  # type: ignore[attr-defined]
    for case in folder.cases:
        volume = read_case(case)
        assert set(np.unique(volume.label)) == set(range(len(folder.spec.labels) + 1))
        for value in range(1, len(folder.spec.labels) + 1):
            # no window of intensities finds the label: the one that holds 90 % of it also holds as much of the rest
            inside = volume.image[0][volume.label == value]
            low, high = np.percentile(inside, [5, 95])
            window = (volume.image[0] >= low) & (volume.image[0] <= high)
            assert (window & (volume.label != value)).sum() > 0.25 * inside.size


def test_same_bytes_again_and_other_cases_differ(phantom: Path, tmp_path: Path) -> None:
    name = "Task01_BrainTumour"
    again = write_phantom(tmp_path, cases=3, tasks=DECATHLON[:1])
    assert digests(again / name) == digests(phantom / name)
    assert len(set(digests(phantom / name / "imagesTr").values())) == 3


def test_written_once(phantom: Path) -> None:
    marker = phantom / "Task02_Heart" / "dataset.json"
    before = marker.stat().st_mtime_ns
    calls: list[tuple[int, int]] = []
    assert write_phantom(phantom.parent, cases=3, progress=lambda *at: calls.append(at)) == phantom
    assert marker.stat().st_mtime_ns == before
    assert calls[-1] == (30, 30)


def test_version_and_number_are_in_the_path(phantom: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.data.phantom.PHANTOM_VERSION", 99)
    other = write_phantom(tmp_path, cases=2, tasks=DECATHLON[3:4])
    assert other.name != phantom.name
    assert "99" in other.name
    assert "2" in other.name
    assert json.loads((other / "Task04_Hippocampus" / "dataset.json").read_text())["numTraining"] == 2


def test_default_place_is_the_cache_folder(own_cache: Path) -> None:
    assert phantom_root().is_relative_to(own_cache)


def test_one_case_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--cases 1"):
        write_phantom(tmp_path, cases=1)
