"""The page and its Markdown twin. The page is one file: style and figures are inside it, and it loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from reports.facts import Facts
from reports.formats import markdown, markdown_escape
from reports.tables import Table

#: An SVG beyond this many bytes goes into the page as PNG.
_MOST_SVG = 300_000


@dataclass(frozen=True)
class Picture:
    """A figure on disk as `<stem>.svg` and `<stem>.png`; group is the section of the page it stands in.

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
        svg = self.stem.with_name(f"{self.stem.name}.svg")
        kind, data = "svg+xml", svg.read_bytes()
        if len(data) > _MOST_SVG:
            kind, data = "png", self.stem.with_name(f"{self.stem.name}.png").read_bytes()
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Page:
    """All that the page shows. summary is the short table of the first screen."""

    facts: Facts
    summary: Table
    tables: dict[str, Table]
    pictures: Sequence[Picture]
    problems: Sequence[str]
    command: str

    def of(self, group: str) -> list[Picture]:
        """The pictures of one section."""
        return [picture for picture in self.pictures if picture.group == group]


def render(page: Page) -> str:
    """The page as HTML. Everything that came from data or names is escaped."""
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html").render(page=page, facts=page.facts, tables=page.tables)


def render_markdown(page: Page, folder: Path) -> str:
    """The same as Markdown; figures are named relative to folder, where the file is to stand."""
    facts = page.facts
    parts = [f"# {markdown_escape(facts.title)}"]
    if facts.banner:
        parts.insert(0, f"> **{markdown_escape(facts.banner)}**")
    parts.append(f"{facts.complete} of {facts.expected} trials complete, {facts.failed} failed.")
    parts.append("\n".join(f"- {markdown_escape(point)}" for point in facts.points))
    for name, title in SECTIONS.items():
        table = page.tables.get(name)
        body = [markdown(table)] if table and not table.empty else []
        body += [_markdown_picture(picture, folder) for picture in page.of(name)]
        body += ["\n".join(f"- {markdown_escape(problem)}" for problem in page.problems)] * (name == "cases")
        parts += [f"## {title}", *filter(None, body)] if any(body) else []
    parts += ["## The same again", "\n".join(f"    {line}" for line in page.command.splitlines())]
    return "\n\n".join(parts) + "\n"


def _markdown_picture(picture: Picture, folder: Path) -> str:
    address = picture.stem.relative_to(folder).as_posix()
    return f"![{markdown_escape(picture.title)}](<{address}.png>)\n\n{markdown_escape(picture.caption)}"


#: The sections in reading order: the name of their table or group of pictures, and the heading.
SECTIONS = {
    "answers": "Is it the pre-training?",
    "data": "Table 1. Data",
    "by_task": "Table 2. Scores by task",
    "by_modality": "Table 3. Scores by modality",
    "controls": "Table 4. Arms and controls",
    "statistics": "Table 5. Statistics",
    "published": "What papers have published",
    "cases": "Cases",
    "training": "Learning curves",
    "cost": "Cost",
    "failures": "Trials that are not complete",
    "weights": "Weights",
    "settings": "Settings",
    "provenance": "Provenance",
}
