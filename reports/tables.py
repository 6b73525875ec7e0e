"""Tables as plain values, and the two tables of scores. `reports.formats` writes them as CSV, LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from results.metrics import PROFILES

METRICS = PROFILES["paper"]
MISSING = "–"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cell:
    """text, shown in bold or not; note is a second, smaller line (in scores: the difference to the baseline).

    hover is what a reader of the page sees when pointing at it, such as an interval.
    """

    text: str
    bold: bool = False
    note: str = ""
    hover: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under one heading (empty for none). notice is a warning that belongs to every number of the group."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]
    notice: str = ""


@dataclass(frozen=True)
class Table:
    """name is the file's stem. The columns named in numbers are set to the right, the others to the left.

    frame is what the CSV holds: the numbers at full precision.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    frame: pd.DataFrame = field(repr=False)
    numbers: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether there is no row to show."""
        return not any(group.rows for group in self.groups)


def plain(name: str, caption: str, frame: pd.DataFrame, numbers: Iterable[str] = ()) -> Table:
    """A table whose cells are the frame's own texts; numbers names the columns to set to the right."""
    rows = tuple(tuple(Cell(str(value)) for value in row) for row in frame.itertuples(index=False))
    return Table(name, caption, tuple(map(str, frame.columns)), (Group("", rows),), frame, frozenset(numbers))


def best(scores: pd.DataFrame, group: str) -> pd.DataFrame:
    """Which means to print in bold: a frame of bool, a column a metric, indexed as scores is.

    The greatest of a group at the three decimals that are shown; equals are all bold. An arm with fewer complete trials
    than another of its group was scored on less, and does not compete. One arm alone is not the best of anything.
    """
    full = scores["complete"] == scores.groupby(group)["complete"].transform("max")
    rivals = (full & scores["dice_mean"].notna()).groupby(scores[group]).transform("sum")
    bold = {}
    for metric in METRICS:
        shown = scores[f"{metric}_mean"].round(3).where(full)
        bold[metric] = (shown == shown.groupby(scores[group]).transform("max")) & (rivals > 1)
    return pd.DataFrame(bold)


def score_table(
    name: str, caption: str, scores: pd.DataFrame, titles: Mapping[str, str], notices: Mapping[str, str] | None = None
) -> Table:
    """A group a task or a modality, a row an arm. scores is what `by_task` or `by_modality` of `results.summary` gives.

    The first column of scores is what groups it; titles and notices have its values as keys.
    """
    by = str(scores.columns[0])
    size = "cases" if "cases" in scores else "tasks"
    bold = best(scores, by)
    groups = tuple(
        Group(
            titles.get(str(key), str(key)),
            tuple(_score_row(row, bold.loc[index], size) for index, row in part.iterrows()),
            (notices or {}).get(str(key), ""),
        )
        for key, part in scores.groupby(by, sort=False)
    )
    columns = ("Arm", *(metric.capitalize() for metric in METRICS), size.capitalize(), "n of expected")
    return Table(name, caption, columns, groups, scores, frozenset(columns[1:]))


def _score_row(row: pd.Series, bold: pd.Series, size: str) -> tuple[Cell, ...]:
    values = (
        Cell(
            mean_sd(row[f"{metric}_mean"], row[f"{metric}_sd"]), bool(bold[metric]), signed(row[f"{metric}_difference"])
        )
        for metric in METRICS
    )
    return (Cell(str(row["arm"])), *values, Cell(str(row[size])), Cell(str(row["n of expected"])))


def mean_sd(mean: float, sd: float) -> str:
    """`0.743 ± 0.051`, without the SD where there is only one value."""
    if pd.isna(mean):
        return MISSING
    return f"{mean:.3f}" if pd.isna(sd) else f"{mean:.3f} ± {sd:.3f}"


def span(values: Sequence[float]) -> str:
    """`7,890` where all are equal, `7,890–9,001` where they are not."""
    if not values:
        return UNKNOWN
    low, high = f"{min(values):,}", f"{max(values):,}"
    return low if low == high else f"{low}–{high}"


def signed(value: float) -> str:
    """`+0.012` or `−0.012`, with a true minus sign; empty where there is no value."""
    shown = "" if pd.isna(value) else f"{value:+.3f}".replace("-", "−")
    return "0.000" if shown.endswith("0.000") else shown
