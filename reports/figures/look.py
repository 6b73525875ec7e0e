"""What all figures have in common: colours, markers and lines by arm, legends, the warning below.

Arms differ in colour (Okabe and Ito's palette, doi of the figure style: https://jfly.uni-koeln.de/color/), marker and
line, so that a figure reads in grey too. There are not as many of each, so that no two of many arms look alike.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLOURS = ("#595959", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1)),
    (0, (3, 1, 1.5, 1)),
    (0, (5, 1, 1, 1)),
    (0, (1, 2)),
    (0, (6, 2)),
)
#: How many letters of small print fit in an inch.
_LETTERS_AN_INCH = 15
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#333333",
    "axes.grid": True,
    "grid.color": "#dddddd",
    "svg.hashsalt": "report",  # the same figure gives the same file
    "pdf.fonttype": 42,  # TrueType: publishers refuse the Type 3 fonts of the default
}


def style() -> Any:
    """The context in which figures are drawn and saved."""
    return matplotlib.rc_context({**sns.axes_style("whitegrid"), **_STYLE, "font.family": ["sans-serif"]})


def text(value: object) -> str:
    """Text as matplotlib must be given it, so that a dollar sign in a name starts no formula."""
    return str(value).replace("$", r"\$")


def wrapped(name: object, width: int = 26) -> str:
    """An arm's name in lines of about so many letters; what stands in brackets stays together."""
    whole = re.sub(r"\([^)]*\)", lambda part: part[0].replace(" ", "\N{NO-BREAK SPACE}"), str(name))
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return text("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "))


def warn(figure: Figure, warning: str) -> None:
    """Write the warning below the figure (nothing where it is empty)."""
    if warning:
        lines = textwrap.wrap(warning, int(_LETTERS_AN_INCH * figure.get_figwidth()))
        figure.supxlabel(text("\n".join(lines)), fontsize=8, color="#a32a00")


def look(number: int) -> dict[str, Any]:
    """Colour, marker and line of the arm that has this place in reading order."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def point(number: int) -> dict[str, Any]:
    """The same without a line."""
    return look(number) | {"linestyle": "none"}


def legend(figure: Figure, names: Sequence[str], lines: bool = False) -> None:
    """The arms above the figure, in their order."""
    looks = [look(number) if lines else point(number) for number in range(len(names))]
    handles = [Line2D([], [], label=text(name), markersize=6, **one) for name, one in zip(names, looks, strict=True)]
    columns = legend_columns(names, figure.get_figwidth())
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, handlelength=2.6)


def legend_inches(names: Sequence[str], inches: float) -> float:
    """How much of a figure's height a legend takes."""
    return 0.1 + 0.19 * -(-len(names) // legend_columns(names, inches))


def legend_columns(names: Sequence[str], inches: float) -> int:
    """How many names fit side by side, with about a twelfth of an inch a letter and half an inch for the marker."""
    return max(1, min(len(names), int(inches / (0.6 + max(map(len, names)) / 12))))


def panels(
    number: int, columns: int, size: tuple[float, float], names: Sequence[str] = (), **more: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of a size in inches, at most so many side by side; names: of the legend above."""
    columns = min(columns, number)
    rows = -(-number // columns)
    width = max(4.6, size[0] * columns)
    shape = (width, 0.4 + size[1] * rows + (legend_inches(names, width) if names else 0))
    figure = Figure(figsize=shape, layout="constrained")
    made = list(np.ravel(figure.subplots(rows, columns, squeeze=False, **more)))
    for panel in made[number:]:
        panel.remove()
    return figure, made[:number]


def names_on(axes: Axes, names: Sequence[str], axis: str = "y") -> None:
    """Names at 0, 1, …; the first on top."""
    if axis == "y":
        axes.set_yticks(range(len(names)), [wrapped(name, 34) for name in names], fontsize=8, linespacing=0.9)
        axes.set_ylim(len(names) - 0.5, -0.5)
    else:
        axes.set_xticks(range(len(names)), [text(name) for name in names], fontsize=8)


def ranged(axes: Axes, at: Sequence[float], middle: Any, low: Any, high: Any, **given: Any) -> None:
    """Horizontal intervals with their middles, at heights; what is missing is not drawn."""
    middle, low, high = (np.asarray(values, dtype=float) for values in (middle, low, high))
    axes.hlines(at, low, high, color=given.get("color", "black"), linewidth=1.6)
    mark: dict[str, Any] = {"markersize": 6, "linestyle": "none", "markeredgecolor": "black"}
    axes.plot(middle, at, **mark | given)
