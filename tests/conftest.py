"""What several test folders share: cache folders of their own, and a small task in the layout of MSD."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings

# How long an example takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Set before torch is imported. What tests compute is tiny: two threads wait for each other longer than they work, and
# far longer where another process wants a core. Processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder))
        patch.setenv("HF_HOME", str(folder / "hf_home"))
        yield folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which BENCH_CACHE names; the hub's own cache is empty too, and its switches are off."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(folder))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def write_task(
    root: Path,
    name: str = "Task99_Tiny",
    cases: int = 6,
    size: int = 20,
    channels: Sequence[str] = ("CT",),
    labels: Sequence[str] = ("blob", "dot"),
    spacing: Sequence[float] = (2.0, 2.0, 3.0),
    patients: dict[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Write `<root>/<name>` with cases tiny_0, tiny_1, …: a ball of label 1 with a cube of the last label in it."""
    folder = root / name
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(cases):
        image, label = _draw(np.random.default_rng([seed, number]), size, len(channels), len(labels))
        affine = np.diag([*spacing, 1.0])
        nib.save(nib.Nifti1Image(image, affine), folder / "imagesTr" / f"tiny_{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / f"tiny_{number}.nii.gz")
    body = {
        "name": name,
        "modality": {str(n): channel for n, channel in enumerate(channels)},
        "labels": {str(n): label for n, label in enumerate(("background", *labels))},
        "training": [
            {"image": f"./imagesTr/tiny_{n}.nii.gz", "label": f"./labelsTr/tiny_{n}.nii.gz"} for n in range(cases)
        ],
        "licence": "CC0-1.0",
        "reference": "made by a test",
    }
    (folder / "dataset.json").write_text(json.dumps(body | ({"patients": patients} if patients else {})))
    return folder


def edit_task(folder: Path, **changes: Any) -> None:
    """Change entries of a task's dataset.json; None takes one out."""
    path = folder / "dataset.json"
    body = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in body.items() if value is not None}))


def _draw(rng: np.random.Generator, size: int, channels: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = np.meshgrid(*[np.arange(size)] * 3, indexing="ij")
    cx, cy, cz = rng.uniform(0.4, 0.6, 3) * size
    label = (((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) < (size / 3) ** 2).astype(np.uint8)
    label[tuple(slice(int(c), int(c) + size // 6) for c in (cx, cy, cz))] = labels
    image = 60.0 * label[..., None] + rng.normal(0, 15, (size, size, size, channels))
    return image.squeeze(-1).astype(np.int16) if channels == 1 else image.astype(np.int16), label


@pytest.fixture
def make_task() -> Callable[..., Path]:
    """`write_task`, for tests that want a task of their own."""
    return write_task


@pytest.fixture(scope="session")
def tiny_msd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one task, Task99_Tiny: CT, one channel, labels blob and dot, six cases of 20³ voxels."""
    root = tmp_path_factory.mktemp("msd")
    write_task(root)
    return root
