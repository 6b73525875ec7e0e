"""The phantom decathlon: ten generated tasks with the names, channels, labels and layout of MSD.

It shows that everything works, from the first file to the last table. It says nothing about any backbone. nibabel and
SciPy are imported as it is drawn: where it lies already, a command starts sooner.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.cache import cache_dir, write_once
from bench.data.recipes import RECIPES, Recipe, Shape
from bench.data.tasks import DECATHLON, TaskSpec

if TYPE_CHECKING:
    import nibabel as nib

#: Part of the folder's name and of every seed: raise it when a drawn voxel changes.
PHANTOM_VERSION = 1
NOTICE = "Phantom data, generated: these numbers show that the suite works and say nothing about real images."
#: Native orientations take turns, as they do in real collections.
_ORIENTATIONS = ("RAS", "LAS", "LPS")
_SMALLEST, _LARGEST = 40, 56

#: Called after each task with (cases done, cases in all).
Progress = Callable[[int, int], None]


def phantom_root() -> Path:
    """Where the phantom lies when nobody says otherwise: `phantom` in the cache folder."""
    return cache_dir() / "phantom"


def write_phantom(
    root: Path, cases: int = 12, tasks: Sequence[TaskSpec] = DECATHLON, progress: Progress | None = None
) -> Path:
    """Write the tasks that are not there yet; return the folder that holds them, `<root>/v<version>-<cases>`.

    Deterministic: a case depends on its task, its number and the version alone. Safe with many writers.
    """
    if cases < 2:
        raise ValueError(f"--cases {cases}: a split needs two cases or more")
    folder = Path(root) / f"v{PHANTOM_VERSION}-{cases}"
    for number, task in enumerate(tasks):
        write_once(folder / task.name, partial(_write_task, task=task, cases=cases))
        if progress:
            progress((number + 1) * cases, len(tasks) * cases)
    return folder


def _write_task(folder: Path, task: TaskSpec, cases: int) -> None:
    recipe = RECIPES[task.name]
    ids = [f"{recipe.prefix}_{number:03d}" for number in range(1, cases + 1)]
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)

    def write(number: int) -> None:
        image, label = draw_case(task, number)
        _save(image, folder / "imagesTr" / f"{ids[number]}.nii.gz")
        _save(label, folder / "labelsTr" / f"{ids[number]}.nii.gz")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(cases)))
    (folder / "dataset.json").write_text(json.dumps(_description(task, ids), indent=1) + "\n", encoding="utf-8")


def _description(task: TaskSpec, ids: list[str]) -> dict[str, object]:
    pair = ("./imagesTr/{}.nii.gz", "./labelsTr/{}.nii.gz")
    return {
        "name": task.name,
        "description": "Generated: textured shapes with noise; the task of MSD in name and layout only",
        "reference": "bench/data/phantom.py",
        "licence": "CC0-1.0",
        "release": str(PHANTOM_VERSION),
        "tensorImageSize": "4D" if len(task.channels) > 1 else "3D",
        "modality": {str(number): channel for number, channel in enumerate(task.channels)},
        "labels": {str(number): label for number, label in enumerate(("background", *task.labels))},
        "numTraining": len(ids),
        "numTest": 0,
        "training": [{"image": pair[0].format(name), "label": pair[1].format(name)} for name in ids],
        "test": [],
        "origin": "phantom",
        "notice": NOTICE,
    }


def _save(image: nib.Nifti1Image, path: Path) -> None:
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def draw_case(task: TaskSpec, number: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Case `number` (from 0) of a task: image (X, Y, Z) or (X, Y, Z, C) int16 and label (X, Y, Z) uint8."""
    recipe = RECIPES[task.name]
    rng = np.random.default_rng([PHANTOM_VERSION, zlib.crc32(task.name.encode()), number])
    in_plane, through = rng.uniform(0.87, 1.13, 2)
    sizes = np.round(48 * np.array([in_plane, in_plane * rng.uniform(0.95, 1.05), through])).astype(int)
    x, y, z = np.clip(sizes, _SMALLEST, _LARGEST).tolist()
    spacing = np.array(recipe.fov) * rng.uniform(0.93, 1.07) / (x, y, z)
    canvas = _Canvas(recipe, (x, y, z), rng)
    affine = np.diag([*spacing.round(4), 1.0])
    affine[:3, 3] = rng.uniform(-100, 100, 3).round(2)
    image_XYZC = np.moveaxis(canvas.image(), 0, -1)
    codes = _ORIENTATIONS[number % len(_ORIENTATIONS)]
    return _nifti(image_XYZC.squeeze(-1) if image_XYZC.shape[-1] == 1 else image_XYZC, affine, codes), _nifti(
        canvas.label, affine, codes
    )


def _nifti(array: np.ndarray, affine: np.ndarray, codes: str) -> nib.Nifti1Image:
    import nibabel as nib

    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    return image.as_reoriented(nib.orientations.axcodes2ornt(codes))


class _Canvas:
    """One case while it is drawn: values (C, X, Y, Z), label (X, Y, Z), and depth by name of shape.

    depth (X, Y, Z) is 0 in the middle of the shapes of that name and 1 at their rim.
    """

    def __init__(self, recipe: Recipe, size: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.recipe, self.size, self.rng = recipe, size, rng
        axes = [((np.arange(n) + 0.5) / n * 2 - 1).astype(np.float32) for n in size]
        self.plain = np.stack(np.meshgrid(*axes, indexing="ij"))
        self.place = self.plain + 0.045 * np.stack([self.field(4) for _ in range(3)])
        self.values = np.empty((len(recipe.outside), *size), np.float32)
        self.values[:] = np.reshape(recipe.outside, (-1, 1, 1, 1))
        self.label = np.zeros(size, np.uint8)
        self.depth: dict[str, np.ndarray] = {}
        for shape in recipe.shapes:
            self.paint(shape)

    def paint(self, shape: Shape) -> None:
        """Draw all of a shape's instances with one value, which varies between cases, and one texture."""
        low, high = shape.count
        value = np.array(shape.value) + shape.spread * self.rng.standard_normal(len(shape.value))
        for _ in range(self.rng.integers(low, high + 1)):
            depth = self.depth_of(shape)
            mask = depth <= 1
            if shape.inside:
                mask &= self.depth[shape.inside] <= 1
            texture = self.recipe.texture * self.field(7)[mask]
            self.values[:, mask] = value[:, None] + texture
            self.label[mask] = shape.label
            self.depth[shape.name] = np.minimum(depth, self.depth.get(shape.name, np.inf))

    def depth_of(self, shape: Shape) -> np.ndarray:
        if shape.kind == "core":
            return self.depth[shape.inside] / (shape.radii[0] * self.rng.uniform(0.93, 1.07))
        if shape.kind == "tube":
            return self.tube(shape)
        centre = self.somewhere(shape.inside, self.place) if shape.centre is None else np.array(shape.centre)
        centre = centre + (0.04 * self.rng.standard_normal(3) if shape.centre is not None else 0)
        radii = np.array(shape.radii) * self.rng.uniform(0.85, 1.15, 3)
        away = (self.place - centre.reshape(3, 1, 1, 1)) / radii.reshape(3, 1, 1, 1)
        return np.sqrt(np.einsum("axyz,axyz->xyz", away, away))

    def tube(self, shape: Shape) -> np.ndarray:
        from scipy import ndimage

        path = np.array(shape.path) + 0.04 * self.rng.standard_normal((len(shape.path), 3))
        lines = [path]
        for _ in range(shape.branches):
            start = path[0] + self.rng.uniform() * (path[-1] - path[0])
            end = self.somewhere(shape.inside, self.plain)
            middle = (start + end) / 2 + 0.08 * self.rng.standard_normal(3)
            lines.append(np.stack([start, middle, end]))
        empty = np.ones(self.size, bool)
        for point in np.concatenate([_dense(line) for line in lines]):
            index = ((point + 1) / 2 * self.size).astype(int)
            empty[tuple(np.clip(index, 0, np.array(self.size) - 1))] = False
        distance = ndimage.distance_transform_edt(empty, sampling=2 / np.array(self.size))
        return (distance / (shape.radii[0] * self.rng.uniform(0.85, 1.15))).astype(np.float32)

    def somewhere(self, host: str, coordinates: np.ndarray) -> np.ndarray:
        """A place well inside a host."""
        inside = np.argwhere(self.depth[host] <= 0.72)
        return coordinates[(slice(None), *inside[self.rng.integers(len(inside))])]

    def field(self, knots: int) -> np.ndarray:
        """A smooth random field (X, Y, Z) of deviation 1: bumps of about 1 / knots of each axis."""
        field = self.rng.standard_normal((knots, knots, knots)).astype(np.float32)
        for n in self.size:
            at = np.linspace(0, knots - 1, n)[:, None] - np.arange(knots)
            weight = np.exp(-(at**2)).astype(np.float32)
            field = np.tensordot(field, weight / weight.sum(1, keepdims=True), axes=(0, 1))
        return field / field.std()

    def image(self) -> np.ndarray:
        """(C, X, Y, Z) int16: what is drawn, after partial volume, receive field, noise and gain."""
        channels = [self.scan(channel) for channel in self.values]
        return np.stack(channels).round().clip(-1024, 32000).astype(np.int16)

    def scan(self, channel: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        recipe = self.recipe
        scan = ndimage.gaussian_filter(channel, 0.5)
        noise = recipe.noise * self.rng.standard_normal(self.size, dtype=np.float32)
        if not recipe.bias:
            return scan + noise
        scan = np.abs(scan * (1 + recipe.bias * np.clip(self.field(3), -2, 2)) + noise)
        if recipe.stripped:
            scan[self.depth[recipe.shapes[0].name] > 1] = 0
        return scan * self.rng.uniform(4, 9)


def _dense(line: np.ndarray) -> np.ndarray:
    """Points (N, 3) along a polyline, closer together than voxels are."""
    at = np.linspace(0, len(line) - 1, 40 * len(line))
    return np.stack([np.interp(at, np.arange(len(line)), axis) for axis in line.T], axis=1)
