r"""A table as LaTeX for a two-column paper: `table*` floats that need the packages booktabs and graphicx, nothing else.

A cell's note stands on a line of its own below its row. Long texts wrap. A table that is still too wide is scaled to
the width of the text, which TeX itself decides; one that is too long goes on in further floats of the same number.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.latex_text import escape
from reports.tables import Cell, Group, Table

#: Characters of \footnotesize that a line of a two-column paper holds, at the narrowest (the class `article`).
_LINE = 104
#: Columns of text up to this many characters do not wrap.
_SHORT = 30
#: A wrapped column has at least this many.
_LEAST = 14
#: Lines of a float, its caption aside.
_PAGE = 46
#: A text is cut beyond this many characters: a cell cannot be broken over pages. The CSV has it in full.
_LONGEST = 240
#: A word of more characters, such as a hash or an address, may be broken after each few of them.
_WORD, _FEW = 14, 4


@dataclass(frozen=True)
class _Column:
    """width is that of its longest line in characters. A wrapped one breaks its texts at that width."""

    number: bool
    width: int
    wrapped: bool = False

    @property
    def spec(self) -> str:
        return rf"p{{{self.width / _LINE:.3f}\textwidth}}" if self.wrapped else "r" if self.number else "l"


def latex(table: Table, warning: str = "") -> str:
    """The table's floats; warning opens the caption. Empty tables give a float that says so."""
    columns = _columns(table)
    caption = " ".join(escape(text) for text in (warning, table.caption) if text)
    label = re.sub(r"[^a-z0-9]+", "-", table.name.lower())
    parts = list(_parts(table.groups, columns)) or [[]]
    floats = [_float(parts[0], table, columns, [rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}"])]
    again = [r"\addtocounter{table}{-1}", r"\caption{(continued)}"]
    floats += [_float(part, table, columns, again) for part in parts[1:]]
    return "\n".join([r"% Needs \usepackage{booktabs} and \usepackage{graphicx}.", *floats, ""])


def _columns(table: Table) -> list[_Column]:
    """Numbers and short texts as wide as they are; the long texts share what is left of the line."""
    rows = [row for group in table.groups for row in group.rows]
    longest = [max((len(_short(row[i].text)) for row in rows), default=0) for i in range(len(table.columns))]
    columns = [
        _Column(name in table.numbers, max(size, *map(len, name.split())))
        for name, size in zip(table.columns, longest, strict=True)
    ]
    long = [i for i, column in enumerate(columns) if not column.number and column.width > _SHORT]
    taken = sum(column.width + 2 for column in columns) - sum(columns[i].width for i in long)
    if taken + sum(columns[i].width for i in long) <= _LINE:
        return columns
    roots = {i: columns[i].width ** 0.5 for i in long}  # a text ten times as long is not given ten times the width
    for i in long:
        width = int((_LINE - taken) * roots[i] / sum(roots.values()))
        columns[i] = _Column(False, max(_LEAST, min(width, columns[i].width)), width < columns[i].width)
    return columns


def _parts(groups: Sequence[Group], columns: Sequence[_Column]) -> Iterator[list[Group]]:
    """The groups of each float: a group that fits into one is not broken; of another the title is repeated."""
    part: list[Group] = []
    left = _PAGE
    for group in groups:
        height = 1 + sum(_height(row, columns) for row in group.rows)
        if part and height > left and height <= _PAGE:
            yield part
            part, left = [], _PAGE
        *full, last = _pieces(group, columns, left)
        for piece in full:
            yield [*part, piece]
            part, left = [], _PAGE
        part.append(last)
        left -= 1 + sum(_height(row, columns) for row in last.rows)
    if part:
        yield part


def _pieces(group: Group, columns: Sequence[_Column], left: int) -> list[Group]:
    """A group in pieces, the first of which has at most left lines."""
    pieces: list[list[tuple[Cell, ...]]] = [[]]
    left -= 1
    for row in group.rows:
        height = _height(row, columns)
        if pieces[-1] and height > left:
            pieces.append([])
            left = _PAGE - 1
        pieces[-1].append(row)
        left -= height
    return [Group(group.title, tuple(rows), group.notice) for rows in pieces]


def _height(row: Sequence[Cell], columns: Sequence[_Column]) -> int:
    """Lines of a row: its longest wrapped text, and one for the notes."""
    lines = [-(-len(_short(c.text)) // col.width) + 1 for c, col in zip(row, columns, strict=True) if col.wrapped]
    return max(lines, default=1) + any(cell.note for cell in row)


def _float(groups: Sequence[Group], table: Table, columns: Sequence[_Column], head: Iterable[str]) -> str:
    lines = [
        r"\begin{table*}",
        r"\centering",
        *head,
        r"\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\sbox0{{\begin{{tabular}}{{@{{}}{''.join(column.spec for column in columns)}@{{}}}}",
        r"\toprule",
        _row([_heading(name, column) for name, column in zip(table.columns, columns, strict=True)]),
        r"\midrule",
        *_body(groups, columns),
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\usebox0}\else\usebox0\fi",
        *_notices(groups),
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _body(groups: Sequence[Group], columns: Sequence[_Column]) -> Iterator[str]:
    for number, group in enumerate(groups):
        if number:
            yield r"\midrule"
        if group.title:
            yield rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{escape(group.title)}}}}} \tabularnewline"
        for row in group.rows:
            yield _row(map(_cell, row, columns))
            if any(cell.note for cell in row):
                yield _row(map(_note, row))
    if not any(group.rows for group in groups):
        yield rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{Nothing to show.}} \tabularnewline"


def _notices(groups: Iterable[Group]) -> Iterator[str]:
    """Below the table, each notice once, with the titles of its groups."""
    titles: dict[str, list[str]] = {}
    for group in groups:
        if group.notice:
            titles.setdefault(group.notice, []).append(group.title)
    for notice, names in titles.items():
        yield rf"\par\smallskip\parbox{{\textwidth}}{{\textit{{{escape('; '.join(names))}:}} {escape(notice)}}}"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \tabularnewline"  # \raggedright makes a line's end of the other command


def _heading(name: str, column: _Column) -> str:
    """A column's name, in lines no longer than its cells where it has several words."""
    lines = textwrap.wrap(name, column.width, break_long_words=False) or [""]
    if len(lines) == 1:
        return escape(lines[0])
    stack = r"\\".join(map(escape, lines))
    return rf"\shortstack[{'r' if column.number else 'l'}]{{{stack}}}"


def _cell(cell: Cell, column: _Column) -> str:
    text = _short(cell.text)
    if column.wrapped:
        weight = r"\bfseries" if cell.bold else ""
        return rf"\raggedright{weight} {_breakable(text)}"
    return rf"\textbf{{{escape(text)}}}" if cell.bold else escape(text)


def _note(cell: Cell) -> str:
    return rf"{{\scriptsize ({escape(cell.note)})}}" if cell.note else ""


def _short(text: str) -> str:
    """Of several lines the last, which of an error is what happened; of a long text its beginning and its end."""
    line = " ".join((text.strip().splitlines() or [""])[-1].split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 3]} … {line[-2 * _LONGEST // 3 :]}"


def _breakable(text: str) -> str:
    return " ".join(escape(word) if len(word) <= _WORD else _broken(word) for word in text.split())


def _broken(word: str) -> str:
    return r"\allowbreak{}".join(escape(word[i : i + _FEW]) for i in range(0, len(word), _FEW))
