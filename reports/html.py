"""The page and its Markdown twin. The page is one file: style, scripts and figures are in it, and it loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reports import inline
from reports.album import Picture
from reports.facts import Facts
from reports.formats import markdown, markdown_escape
from reports.tables import Table


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, its name in the table of contents, and which of the page's tables stand in it.

    Its pictures are those whose group is the section's key. Folded tables stand below, closed. empty is
    said where there is nothing to show; a section without it is then left out.
    """

    title: str
    short: str
    tables: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    empty: str = ""


#: In reading order. A table that `reports.build` makes is shown by naming it here.
SECTIONS = {
    "data": Section("Table 1. Data", "Data", ("data",)),
    "by_task": Section("Table 2. Scores by task", "By task", ("by_task",), folded=("by_label",)),
    "by_modality": Section("Table 3. Scores by modality", "By modality", ("by_modality",)),
    "controls": Section("Table 4. Arms and controls", "Controls", ("controls",)),
    "statistics": Section(
        "Table 5. Statistics", "Statistics", ("statistics",), folded=("statistics_hd95", "statistics_nsd")
    ),
    "ranking": Section("Ranking", "Ranking", ("ranking",), folded=("significance", "stability")),
    "cost": Section("Cost", "Cost", ("cost",)),
    "few_shot": Section("Few training cases", "Few cases", ("few_shot",)),
    "layers": Section("Layers of the block", "Layers", ("layers",)),
    "placements": Section("Places of the block", "Places", ("placements",)),
    "ablations": Section("Variants of the segmenter", "Ablations", ("ablations",)),
    "audit": Section("Empty masks", "Empty masks", ("audit",)),
    "training": Section("Learning curves", "Learning", empty="No trial left a learning curve."),
    "cases": Section("Cases", "Cases", empty="No trial left pictures of its cases."),
    "activations": Section("Activation maps", "Activations", ("activations",)),
    "published": Section("What papers have published", "Published", ("published",)),
    "failures": Section(
        "Trials that are not complete", "Failures", ("failures",), empty="None: every planned trial is complete."
    ),
    "provenance": Section("Provenance", "Provenance", ("weights", "provenance"), folded=("settings",)),
}


@dataclass(frozen=True)
class Answers:
    """The answers to the report's questions: a sentence, a table that shows what it rests on, the same by task."""

    sentence: str
    table: Table
    by_task: Table | None = None


@dataclass(frozen=True)
class Page:
    """All that the page shows. summary is the short table of the first screen, answers stand above it where given.

    viewer says what is in the case viewer beside the page; empty where there is none.
    """

    facts: Facts
    summary: Table
    tables: dict[str, Table]
    pictures: Sequence[Picture]
    problems: Sequence[str]
    command: str
    answers: Answers | None = None
    viewer: str = ""

    def of(self, group: str) -> list[Picture]:
        """The pictures of one section."""
        return [picture for picture in self.pictures if picture.group == group]

    def tables_of(self, names: Sequence[str]) -> list[Table]:
        """Those of the named tables that were made and have a row."""
        return [self.tables[name] for name in names if name in self.tables and not self.tables[name].empty]

    @property
    def sections(self) -> dict[str, Section]:
        """The sections that have something to show, or to say."""
        return {key: section for key, section in SECTIONS.items() if section.empty or self._has(key, section)}

    def _has(self, key: str, section: Section) -> bool:
        named = (*section.tables, *section.folded)
        return bool(self.of(key)) or any(name in self.tables for name in named)


def render(page: Page) -> str:
    """The page as HTML. Everything that came from data or names is escaped."""
    script = inline.source("sort.js", "hover.js", "fold.js")
    return inline.environment().get_template("index.html").render(
        page=page, facts=page.facts, tables=page.tables, script=script, policy=inline.policy(script)
    )  # fmt: skip


def render_markdown(page: Page, folder: Path) -> str:
    """The same as Markdown; figures are named relative to folder, where the file is to stand."""
    facts = page.facts
    parts = [f"# {markdown_escape(facts.title)}"]
    if facts.banner:
        parts.insert(0, f"> **{markdown_escape(facts.banner)}**")
    parts.append(f"{facts.complete} of {facts.expected} trials complete, {facts.failed} failed.")
    if page.answers:
        parts += [f"**{markdown_escape(page.answers.sentence)}**", markdown(page.answers.table)]
        if page.answers.by_task:
            parts.append(markdown(page.answers.by_task))
    parts.append("\n".join(f"- {markdown_escape(point)}" for point in facts.points))
    for key, section in page.sections.items():
        parts += _markdown_section(page, key, section, folder)
    parts += ["## The same again", "\n".join(f"    {line}" for line in page.command.splitlines())]
    return "\n\n".join(parts) + "\n"


def _markdown_section(page: Page, key: str, section: Section, folder: Path) -> list[str]:
    body = [markdown(table) for table in page.tables_of((*section.tables, *section.folded))]
    if key == "cases":
        body += [f"[Case viewer](viewer.html): {markdown_escape(page.viewer)}"] * bool(page.viewer)
    body += [_markdown_picture(picture, folder) for picture in page.of(key)]
    if key == "cases":
        body += ["\n".join(f"- {markdown_escape(problem)}" for problem in page.problems)] * bool(page.problems)
    body = body or [section.empty] * bool(section.empty)
    return [f"## {section.title}", *body] if body else []


def _markdown_picture(picture: Picture, folder: Path) -> str:
    address = picture.stem.relative_to(folder).as_posix()
    return f"![{markdown_escape(picture.title)}](<{address}.png>)\n\n{markdown_escape(picture.caption)}"
