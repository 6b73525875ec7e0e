"""Overlays: a slice of the image, the reference and each arm's prediction, as a trial left them in `previews/`.

A preview is an `.npz` beside the records, `run/previews/<key>.npz`: `cases` (names), and for the i-th case `image_i`,
`reference_i` and `prediction_i`, all (H, W) uint8, and optionally `aspect_i`, a pixel's height over its width.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from reports.figures import text, warn
from results.record import Status, TrialResult

#: How many cases a figure shows: the first by name, so that nobody picked them.
SHOWN = 2
_COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00")
_LINES: tuple[Any, ...] = ("-", "--", ":")
_PARTS = ("image", "reference", "prediction")


class PreviewError(ValueError):
    """A preview file that is there and cannot be used. The message names it."""


@dataclass(frozen=True)
class Slice:
    """image_HW in grey levels 0–255; reference_HW and prediction_HW hold 0 and the labels 1, 2, …"""

    image_HW: NDArray[np.uint8]
    reference_HW: NDArray[np.uint8]
    prediction_HW: NDArray[np.uint8]
    aspect: float = 1.0


def read_preview(path: Path) -> dict[str, Slice]:
    """The slices of a preview by case. FileNotFoundError where there is no file, PreviewError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["cases"]]
            return {name: _slice(arrays, number) for number, name in enumerate(names)}
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PreviewError(f"preview {path} cannot be used: {error}; delete it and run its trial again") from error


def _slice(arrays: Mapping[str, NDArray[np.uint8]], number: int) -> Slice:
    image, reference, prediction = parts = [arrays[f"{part}_{number}"] for part in _PARTS]
    if len({part.shape for part in parts}) > 1 or parts[0].ndim != 2:
        raise ValueError(f"case {number} has arrays of shapes {[part.shape for part in parts]}, not one shape (H, W)")
    aspect = float(arrays[f"aspect_{number}"]) if f"aspect_{number}" in arrays else 1.0
    if not (np.isfinite(aspect) and aspect > 0):
        raise ValueError(f"case {number} has the aspect {aspect}, which is no positive number")
    return Slice(image, reference, prediction, aspect)


def previews_of(
    run: Path, records: Sequence[TrialResult], trials: pd.DataFrame
) -> tuple[dict[str, dict[str, dict[str, Slice]]], list[str]]:
    """task → arm → case → Slice, from each arm's first complete trial; and a sentence a preview that is not there."""
    done = {record.spec.digest: record for record in records if record.status is Status.COMPLETE}
    found: dict[str, dict[str, dict[str, Slice]]] = {}
    problems: list[str] = []
    for (name, arm), part in trials.groupby(["task", "arm"], sort=False):
        task = found.setdefault(str(name), {})
        record = next((done[digest] for digest in part["digest"] if digest in done), None)
        if record is None:
            problems.append(f"{name}, {arm}: no complete trial")
            continue
        try:
            task[str(arm)] = read_preview(Path(run) / "previews" / f"{record.spec.key}.npz")
        except FileNotFoundError:
            task[str(arm)] = {}
            problems.append(f"{name}, {arm}: no preview file previews/{record.spec.key}.npz")
        except PreviewError as error:
            task[str(arm)] = {}
            problems.append(f"{name}, {arm}: {error}")
    return found, problems


def overlay(arms: Mapping[str, Mapping[str, Slice]], labels: Sequence[str], warning: str = "") -> Figure | None:
    """A row an arm; for each of the first cases its image, reference and prediction. None where no arm has a slice."""
    cases = sorted({case for slices in arms.values() for case in slices})[:SHOWN]
    if not cases:
        return None
    columns = len(cases) * len(_PARTS)
    height = min(2.4, max(0.5, 1.55 * max(_tallness(shown) for slices in arms.values() for shown in slices.values())))
    figure = Figure(figsize=(1.5 + 1.55 * columns, 1.1 + (height + 0.05) * len(arms)), layout="constrained")
    panels = figure.subplots(len(arms), columns, squeeze=False)
    for row, (arm, slices) in zip(panels, arms.items(), strict=True):
        for place, case in enumerate(cases):
            _draw(row[3 * place : 3 * place + 3], slices.get(case), len(labels))
        row[0].set_ylabel(text(arm).replace(" (", "\n("), fontsize=9)
    for place, panel in enumerate(panels[0]):
        case = f"{text(cases[place // 3])}\n" if place % 3 == 0 else "\n"
        panel.set_title(case + _PARTS[place % 3], fontsize=8)
    handles = [Line2D([], [], color=_colour(i), linestyle=_line(i), label=text(name)) for i, name in enumerate(labels)]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(4, len(handles)), frameon=False, fontsize=8)
    warn(figure, warning)
    return figure


def _tallness(shown: Slice) -> float:
    """Height over width as drawn."""
    rows, columns = shown.image_HW.shape
    return rows * shown.aspect / columns


def _draw(panels: Sequence[Axes], shown: Slice | None, labels: int) -> None:
    for panel, part in zip(panels, _PARTS, strict=True):
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
        for spine in panel.spines.values():
            spine.set_visible(False)
        if shown is None:
            panel.text(0.5, 0.5, "no preview", ha="center", va="center", fontsize=8, transform=panel.transAxes)
            continue
        panel.imshow(shown.image_HW, cmap="gray", vmin=0, vmax=255, aspect=shown.aspect, interpolation="nearest")
        if part != "image":
            _paint(panel, shown.reference_HW if part == "reference" else shown.prediction_HW, labels, shown.aspect)


def _paint(panel: Axes, mask_HW: NDArray[np.uint8], labels: int, aspect: float) -> None:
    """Fill each label lightly and outline it: colour and kind of line tell labels apart."""
    layer = np.zeros((*mask_HW.shape, 4))
    for number in range(labels):
        inside = mask_HW == number + 1
        layer[inside] = (*to_rgb(_colour(number)), 0.35)
        if inside.any() and min(mask_HW.shape) > 1:
            panel.contour(inside, levels=[0.5], colors=[_colour(number)], linestyles=_line(number), linewidths=1.2)
    panel.imshow(layer, aspect=aspect, interpolation="nearest")


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _line(number: int) -> Any:
    return _LINES[number % len(_LINES)]
