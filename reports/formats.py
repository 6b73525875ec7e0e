"""A table as CSV, LaTeX (booktabs) and Markdown. Whatever came from data is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reports.tables import Cell, Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
    "[": "{[}",  # after a row's end it would open an option
}
_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {sign: f"\\{sign}" for sign in "\\`*_[]|#~"}


def latex_escape(text: str) -> str:
    """Text that LaTeX sets as it stands; line breaks become spaces."""
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


def markdown_escape(text: str) -> str:
    """Text that neither Markdown nor the HTML inside it reads as markup; line breaks become spaces."""
    return "".join(_MARKDOWN.get(sign, sign) for sign in " ".join(text.split()))


def csv(table: Table) -> str:
    """The table's frame, with empty cells where a value is missing."""
    text: str = table.frame.to_csv(index=False, lineterminator="\n")
    return text


def latex(table: Table, warning: str = "") -> str:
    """A `table*` float that needs `\\usepackage{booktabs}`; warning opens its caption."""
    columns = "".join("r" if name in table.numbers else "l" for name in table.columns)
    caption = " ".join(latex_escape(text) for text in (warning, table.caption) if text)
    lines = [
        r"\begin{table*}",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', table.name.lower())}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row([Cell(name) for name in table.columns]),
    ]
    for group in table.groups:
        lines.append(r"\midrule")
        for text in (group.title, group.notice):
            if text:
                lines.append(rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\textit{{{latex_escape(text)}}}}} \\")
        lines += [_latex_row(row) for row in group.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _latex_row(cells: tuple[Cell, ...] | list[Cell]) -> str:
    return " & ".join(_latex_cell(cell) for cell in cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{latex_escape(cell.text)}}}" if cell.bold else latex_escape(cell.text)
    return f"{text} ({latex_escape(cell.note)})" if cell.note else text


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
