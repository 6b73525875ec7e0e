"""A table as CSV, LaTeX (booktabs) and Markdown. Whatever came from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from reports.latex import latex as latex
from reports.tables import Cell, Table

_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {sign: f"\\{sign}" for sign in "\\`*_[]|#~"}


def markdown_escape(text: str) -> str:
    """Text that neither Markdown nor the HTML inside it reads as markup; line breaks become spaces."""
    return "".join(_MARKDOWN.get(sign, sign) for sign in " ".join(text.split()))


def csv(table: Table) -> str:
    """The table's frame, with empty cells where a value is missing. Line breaks within a cell are line feeds."""
    frame = table.frame.replace(r"\r\n?", "\n", regex=True)  # a bare carriage return would end the row
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def markdown(table: Table) -> str:
    """A pipe table with its caption above; a group's heading is a row of its own."""
    width = len(table.columns)
    rule = ["---:" if name in table.numbers else "---" for name in table.columns]
    lines = [markdown_escape(table.caption), "", _pipes(map(markdown_escape, table.columns)), _pipes(rule)]
    for group in table.groups:
        for text in (group.title, group.notice):
            if text:
                lines.append(_pipes([f"*{markdown_escape(text)}*", *[""] * (width - 1)]))
        lines += [_pipes(map(_markdown_cell, row)) for row in group.rows]
    return "\n".join([*lines, ""])


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{markdown_escape(cell.text)}**" if cell.bold else markdown_escape(cell.text)
    return f"{text} ({markdown_escape(cell.note)})" if cell.note else text
