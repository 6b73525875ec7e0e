"""Figures on disk, each in three formats as soon as it is drawn, and the one of them that the page embeds."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from results import store

_DOTS_PER_INCH = 130
#: In inches: wider figures are not shrunk to a phone's screen.
_WIDE = 7.0
#: An SVG beyond this many bytes goes into the page as PNG, and a PNG beyond it as JPEG: it holds images.
_MOST_SVG, _MOST_PNG = 300_000, 400_000
#: Format → how a figure is written in it; without the time, so that the same records give the same files.
_FORMATS: dict[str, Callable[[Figure, io.BytesIO], None]] = {
    "svg": lambda figure, to: FigureCanvasSVG(figure).print_svg(to, metadata={"Date": None}),
    "pdf": lambda figure, to: FigureCanvasPdf(figure).print_pdf(to, metadata={"CreationDate": None}),
    "png": lambda figure, to: FigureCanvasAgg(figure).print_png(to, metadata={"Software": None}),
}


@dataclass(frozen=True)
class Words:
    """What stands with a figure, and the section of the page that it stands in."""

    title: str
    caption: str
    group: str


@dataclass(frozen=True)
class Picture:
    """A figure on disk as `<stem>.svg`, `<stem>.pdf` and `<stem>.png`; group is the section of the page it stands in.

    A wide one scrolls on a small screen instead of shrinking until nobody can read it.
    """

    stem: Path
    title: str
    caption: str
    group: str
    wide: bool = False

    @property
    def uri(self) -> str:
        """The picture itself, as a data address."""
        kind, data = "svg+xml", self.stem.with_name(f"{self.stem.name}.svg").read_bytes()
        if len(data) > _MOST_SVG:
            kind, data = "png", self.stem.with_name(f"{self.stem.name}.png").read_bytes()
        if len(data) > _MOST_PNG:
            kind, data = "jpeg", _jpeg(data)
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _jpeg(png: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def save_all(folder: Path, drawn: Iterable[tuple[str, Words, Figure | None]]) -> list[Picture]:
    """Save each figure as it comes, and drop it; a figure of an earlier report that is not drawn again goes."""
    pictures = []
    for name, words, figure in drawn:
        if figure is not None:
            pictures.append(save(folder, name, words, figure))
            figure.clear()  # a figure is a ring of references, and the largest thing here
    _remove_others(folder, {picture.stem.name for picture in pictures})
    return pictures


def save(folder: Path, name: str, words: Words, figure: Figure) -> Picture:
    """Save a figure in every format.

    Not by `savefig`, which draws everything twice for each: it is laid out once, and drawn once for each.
    """
    stem = folder / name.replace("/", "_")
    figure.dpi = _DOTS_PER_INCH
    if engine := figure.get_layout_engine():
        shrinks = any(axes.get_aspect() != "auto" for axes in figure.axes)  # then names have more room than it thought
        for _ in range(1 + shrinks):
            engine.execute(figure)
        figure.set_layout_engine("none")
    for kind, write in _FORMATS.items():
        figure.dpi = _DOTS_PER_INCH  # the writer of vectors leaves its own behind
        write(figure, buffer := io.BytesIO())
        store.atomic_write(stem.with_name(f"{stem.name}.{kind}"), buffer.getvalue())
    return Picture(stem, words.title, words.caption, words.group, wide=figure.get_figwidth() > _WIDE)


def _remove_others(folder: Path, kept: set[str]) -> None:
    for kind in _FORMATS:
        for path in folder.glob(f"*.{kind}"):
            if path.stem not in kept:
                path.unlink()
