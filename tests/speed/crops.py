"""A training crop from a prepared case, against MONAI's PersistentDataset, and the memory of the cutting process."""

from __future__ import annotations

import atexit
import resource
import shutil
import sys
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.crops import CropSampler
from bench.data.grid import Grid
from bench.data.prepared import PreparedArrays
from tests.speed.harness import Reading, alternate, fresh, measurement, seconds, value, versioned

SHAPE, CROP = (256, 256, 160), (96, 96, 96)
CROP_BYTES = int(np.prod(CROP)) * (4 + 1)
#: How many crops one timing of ours takes: a crop alone is too short for a clock on a busy machine.
TIMES = 20
MEGABYTE = 1_000_000


@measurement(
    "training-crop",
    "a 96³ training crop of a prepared CT case of 256×256×160, at least 50 times faster than PersistentDataset's hit",
    versioned("monai"),
    bar=1 / 50,
)
def training_crop(runs: int) -> Reading:
    """The peer's crop oversamples the foreground as ours does; the note has one that only draws a place."""
    peer = Peer(case_folder())
    ours = Ours(case_folder())
    ours.equals(peer)
    taken = alternate(ours.seconds, peer.balanced, runs, value)
    place = alternate(ours.seconds, peer.anywhere, min(runs, 3), value)
    return Reading(*taken, note=f"RandSpatialCropd instead: {place[1]:.3g} s, ratio {place[0] / place[1]:.2g}")


@measurement(
    "training-crop-memory",
    "a fresh process that cuts 32 crops of 96³ takes in all, Python included, the crop's size and 50 MB at most",
    None,
    bar=(CROP_BYTES + 50 * MEGABYTE) / MEGABYTE,
    of="ours",
    unit="MB",
)
def training_crop_memory(runs: int) -> Reading:
    return Reading(max(fresh(__name__, "peak_of_crops", str(case_folder())) for _ in range(runs)) / MEGABYTE)


@cache
def case_folder() -> Path:
    """A prepared case of a realistic size, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="crops-"))
    atexit.register(shutil.rmtree, folder)
    rng = np.random.default_rng(0)
    label = np.zeros(SHAPE, np.uint8)
    label[100:160, 90:150, 60:100] = 1
    np.save(folder / "image.npy", rng.normal(size=(1, *SHAPE)).astype(np.float32))
    np.save(folder / "label.npy", label)
    found = np.argwhere(label)[:: label.sum() // 4096]
    np.save(folder / "positions.npy", np.column_stack([np.ones(len(found)), found]).astype(np.int32))
    return folder


def sampler_of(folder: Path) -> CropSampler:
    rows = tuple(tuple(float(v) for v in row) for row in np.eye(4))
    x, y, z = ((0, side) for side in SHAPE)
    return CropSampler([PreparedArrays(folder, Grid(SHAPE, rows, (x, y, z), SHAPE))], CROP, seed=0, augment="none")


class Ours:
    def __init__(self, folder: Path) -> None:
        self.sampler, self.next = sampler_of(folder), 0

    def seconds(self) -> float:
        """The mean over TIMES crops, each of another place."""
        start = time.perf_counter()
        for _ in range(TIMES):
            self.sampler.sample(self.next)
            self.next += 1
        return (time.perf_counter() - start) / TIMES

    def equals(self, peer: Peer) -> None:
        """Ours is a box of the arrays that the peer reads."""
        whole = peer.whole()
        for index in range(3):
            image, label = self.sampler.sample(index)
            rng = np.random.default_rng([0, index, 1])
            x, y, z = self.sampler._place(self.sampler.cases[0], rng)[0]
            box = (slice(x, x + 96), slice(y, y + 96), slice(z, z + 96))
            np.testing.assert_array_equal(image, np.asarray(whole["image"])[(slice(None), *box)])
            np.testing.assert_array_equal(label, np.asarray(whole["label"])[(0, *box)])


class Peer:
    """PersistentDataset whose cache is filled, with two of MONAI's random crops."""

    def __init__(self, folder: Path) -> None:
        from monai import transforms

        self.folder, keys = folder, ("image", "label")
        np.save(folder / "monai_label.npy", np.load(folder / "label.npy")[None])
        self.fixed = self.dataset()
        self.by_label = self.dataset(transforms.RandCropByPosNegLabeld(keys, "label", CROP))
        self.by_place = self.dataset(transforms.RandSpatialCropd(keys, CROP, random_size=False))

    def dataset(self, *random: Any) -> Any:
        from monai import transforms
        from monai.data import PersistentDataset

        warnings.simplefilter("ignore")
        files = {"image": str(self.folder / "image.npy"), "label": str(self.folder / "monai_label.npy")}
        load = transforms.LoadImaged(("image", "label"), ensure_channel_first=True, channel_dim=0)
        made = PersistentDataset([files], transforms.Compose([load, *random]), cache_dir=self.folder / "monai")
        made[0]  # the first reading fills its cache
        return made

    def whole(self) -> Any:
        return self.fixed[0]

    def balanced(self) -> float:
        return seconds(lambda: self.by_label[0])

    def anywhere(self) -> float:
        return seconds(lambda: self.by_place[0])


def peak_of_crops(folder: str) -> int:
    """Bytes of memory that this process had at most, by the end of 32 crops."""
    sampler = sampler_of(Path(folder))
    for index in range(32):
        sampler.sample(index)
    if sys.platform == "linux":  # ru_maxrss starts with what the parent had when it forked
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
