"""Tables as plain values, and the two tables of scores. `reports.formats` writes them as CSV, LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from results.metrics import METRICS, PROFILES

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


def best(scores: pd.DataFrame, group: str, metrics: Sequence[str] = PROFILES["paper"]) -> pd.DataFrame:
    """Which means to print in bold: a frame of bool, a column a metric, indexed as scores is.

    The best of a group at the decimals that are shown; equals are all bold. An arm with fewer complete trials
    than another of its group was scored on less, and does not compete. One arm alone is not the best of anything.
    """
    full = scores["complete"] == scores.groupby(group)["complete"].transform("max")
    rivals = (full & scores["dice_mean"].notna()).groupby(scores[group]).transform("sum")
    bold = {}
    for metric in metrics:
        shown = scores[f"{metric}_mean"].round(_decimals(metric)).where(full)
        choose = "max" if METRICS[metric].higher_is_better else "min"
        bold[metric] = (shown == shown.groupby(scores[group]).transform(choose)) & (rivals > 1)
    return pd.DataFrame(bold)


def score_table(
    name: str,
    caption: str,
    scores: pd.DataFrame,
    titles: Mapping[str, str],
    notices: Mapping[str, str] | None = None,
    metrics: Sequence[str] = PROFILES["paper"],
    hovers: Mapping[tuple[str, str, str], str] | None = None,
) -> Table:
    """A group a task or a modality, a row an arm. scores is what `by_task` or `by_modality` of `results.summary` gives.

    The first column of scores is what groups it; titles and notices have its values as keys, hovers group, arm and
    metric. metrics: those of a profile.
    """
    by = str(scores.columns[0])
    size = "cases" if "cases" in scores else "tasks"
    bold = best(scores, by, metrics)
    groups = tuple(
        Group(
            titles.get(str(key), str(key)),
            tuple(
                _score_row(
                    row, bold.loc[index], size, {m: (hovers or {}).get((key, row["arm"], m), "") for m in metrics}
                )
                for index, row in part.iterrows()
            ),
            (notices or {}).get(str(key), ""),
        )
        for key, part in scores.groupby(by, sort=False)
    )
    columns = ("Arm", *map(heading, metrics), size.capitalize(), "n of expected")
    others = {
        f"{metric}_{kind}" for metric in METRICS if metric not in metrics for kind in ("mean", "sd", "difference")
    }
    frame = scores[[column for column in scores if column not in others]]
    return Table(name, caption, columns, groups, frame, frozenset(columns[1:]))


def heading(metric: str) -> str:
    """A metric's name above its column: `HD95 ↓ (mm)`, the arrow where less is better."""
    one = METRICS[metric]
    return f"{one.title}{'' if one.higher_is_better else ' ↓'}{f' ({one.unit})' if one.unit else ''}"


def _decimals(metric: str) -> int:
    return 2 if METRICS[metric].unit else 3


def _score_row(row: pd.Series, bold: pd.Series, size: str, hovers: Mapping[str, str]) -> tuple[Cell, ...]:
    values = (
        Cell(
            mean_sd(row[f"{metric}_mean"], row[f"{metric}_sd"], _decimals(metric)),
            bool(bold[metric]),
            signed(row[f"{metric}_difference"], _decimals(metric)),
            hovers[metric],
        )
        for metric in hovers
    )
    return (Cell(str(row["arm"])), *values, Cell(str(row[size])), Cell(str(row["n of expected"])))


def hovers(means: pd.DataFrame, by: str) -> dict[tuple[str, str, str], str]:
    """Task or modality, arm, metric → the interval in words. means: of `results.statistics.means_of_each`."""
    over = means[(means["task"] == "all") == (by == "modality")]
    return {
        (getattr(row, by), row.arm, row.metric): _interval_words(row)
        for row in over.itertuples(index=False)
        if not pd.isna(row.low)
    }


def _interval_words(row: Any) -> str:
    digits = _decimals(row.metric)
    words = f"95 % interval {row.low:.{digits}f} to {row.high:.{digits}f}, over {row.n} {row.unit}s"
    if pd.isna(row.seed_sd):
        return words
    return f"{words}\nSD over {row.seeds} seeds {row.seed_sd:.{digits}f}"


def mean_sd(mean: float, sd: float, digits: int = 3) -> str:
    """`0.743 ± 0.051`, without the SD where there is only one value."""
    if pd.isna(mean):
        return MISSING
    return f"{mean:.{digits}f}" if pd.isna(sd) else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def interval(middle: float, low: float, high: float, form: str = ".3f") -> str:
    """`0.743 [0.701, 0.786]`, without the interval where there is none."""
    if pd.isna(middle):
        return MISSING
    return f"{middle:{form}}" if pd.isna(low) else f"{middle:{form}} [{low:{form}}, {high:{form}}]"


def span(values: Sequence[float]) -> str:
    """`7,890` where all are equal, `7,890–9,001` where they are not."""
    if not values:
        return UNKNOWN
    low, high = f"{min(values):,}", f"{max(values):,}"
    return low if low == high else f"{low}–{high}"


def signed(value: float, digits: int = 3) -> str:
    """`+0.012` or `−0.012`, with a true minus sign; empty where there is no value."""
    shown = "" if pd.isna(value) else f"{value:+.{digits}f}".replace("-", "−")
    zero = f"{0:.{digits}f}"
    return zero if shown[1:] == zero else shown
