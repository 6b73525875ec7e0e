"""What `bench data check` prints: a row a task or a case, then every notice and every problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.commands.console import WIDE
from bench.data.check import CheckedCase, TaskCheck, check_task
from bench.data.folder import DataError, TaskFolder, open_task, task_names
from bench.data.measure import CaseFacts, Intensity
from bench.data.tasks import TaskSpec
from bench.work_bar import WorkBar

_MEASURED = ("voxels by label", "intensity (min, 0.5 %, median, mean, 99.5 %, max)", "problems")
TASK_COLUMNS = ("task", "modality", "cases", "channels", "shape", "spacing (mm)", *_MEASURED, "notices")
CASE_COLUMNS = ("task", "case", "channels", "shape", "spacing (mm)", *_MEASURED)

Row = tuple[str, ...]


def show_check(folder: Path, tasks: tuple[str, ...], console: Console, by_case: bool = False) -> int:
    """Check every task and print what was found; 1 if there is any problem."""
    rows: list[Row] = []
    problems: list[str] = []
    notices: list[str] = []
    for name in tasks or task_names(folder):
        try:
            task = open_task(folder, name)
        except DataError as error:  # one task that cannot be opened hides nothing of the others
            lines = str(error).splitlines()
            rows.append(_unopened(name, len(lines), CASE_COLUMNS if by_case else TASK_COLUMNS))
            problems += lines
            continue
        with WorkBar(f"checking {name}") as bar:
            found = check_task(task, bar.update)
        rows += [_case_row(task.spec, entry) for entry in found.cases] if by_case else [_task_row(task, found)]
        problems += found.problems
        notices += found.notices
    show_rows(CASE_COLUMNS if by_case else TASK_COLUMNS, rows, console)
    for kind, lines in (("notice", notices), ("problem", problems)):
        for line in lines:
            console.print(f"{kind}: {line}", highlight=False, markup=False)
    if not problems:
        console.print("no problem found")
    return int(bool(problems))


def show_rows(columns: Row, rows: Sequence[Row], console: Console) -> None:
    """A table for a person, or a block a row where the terminal is too narrow; through a pipe, rows with tabs."""
    if not console.is_terminal:
        for row in (columns, *rows):
            print(*row, sep="\t", file=console.file)
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    if console.measure(table, options=console.options.update(width=WIDE)).maximum <= console.width:
        console.print(table)
    else:
        for row in rows:
            console.print(_block(columns, row))


def _block(columns: Row, row: Row) -> Table:
    block = Table.grid("", "", padding=(0, 2))
    block.title, block.title_justify = escape(row[0]), "left"
    for column, value in zip(columns[1:], row[1:], strict=True):
        if value:
            block.add_row(column, escape(value))
    return block


def _unopened(name: str, problems: int, columns: Row) -> Row:
    told = {"task": name, "problems": str(problems)}
    return tuple(told.get(column, "") for column in columns)


def _task_row(task: TaskFolder, found: TaskCheck) -> Row:
    spec = task.spec
    facts = [entry.facts for entry in found.cases if not entry.facts.errors]
    whole = [fact for fact in facts if len(fact.shape) == 3]
    counts = {value: sum(fact.counts.get(value, 0) for fact in facts) for fact in facts for value in fact.counts}
    alike = [fact for fact in facts if fact.channels == len(spec.channels)]
    levels = [_over_cases([fact.intensity[c] for fact in alike]) for c in range(len(spec.channels)) if alike]
    return (
        spec.name,
        spec.modality,
        str(len(task.cases)),
        ", ".join(spec.channels),
        _median_and_range([fact.shape for fact in whole]),
        _median_and_range([fact.spacing for fact in whole]),
        _labels(spec, counts),
        _intensity(spec, levels),
        str(len(found.problems)),
        str(len(found.notices)),
    )


def _case_row(spec: TaskSpec, entry: CheckedCase) -> Row:
    fact: CaseFacts = entry.facts
    measured = ("", "", "", "", "")
    if not fact.errors:
        sizes = _numbers(fact.shape), _numbers(fact.spacing)
        measured = (str(fact.channels), *sizes, _labels(spec, fact.counts), _intensity(spec, fact.intensity))
    return (spec.name, entry.case.id, *measured, str(len(entry.problems)))


def _median_and_range(values: Sequence[Sequence[float]]) -> str:
    """`35 × 51 × 36 (31–43 × 40–59 × 24–47)`; the median alone where all are alike."""
    if not values:
        return ""
    array = np.array(values, dtype=float)
    median, low, high = np.median(array, axis=0), array.min(axis=0), array.max(axis=0)
    if np.allclose(low, high):
        return _numbers(median)
    ranges = (f"{a:.4g}–{b:.4g}" for a, b in zip(low, high, strict=True))
    return f"{_numbers(median)} ({' × '.join(ranges)})"


def _numbers(values: Iterable[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)


def _labels(spec: TaskSpec, counts: dict[int, int]) -> str:
    """`background=7000 blob=900`: every declared label, then every value that is none."""
    names = dict(enumerate(("background", *spec.labels)))
    values = [*names, *sorted(set(counts) - set(names))]
    return " ".join(f"{names.get(value, value)}={counts.get(value, 0)}".replace(" ", "_") for value in values)


def _over_cases(levels: list[Intensity]) -> Intensity:
    """Extremes over all cases; percentiles and mean are the median case's."""
    array = np.array(levels)
    _, low, median, mean, high, _ = np.median(array, axis=0).tolist()
    return Intensity(float(array[:, 0].min()), low, median, mean, high, float(array[:, 5].max()))


def _intensity(spec: TaskSpec, levels: Sequence[Intensity]) -> str:
    """A part a channel: its name and the six levels, in the order of the column's head."""
    names = spec.channels if len(spec.channels) == len(levels) else [str(n) for n in range(len(levels))]
    parts = (f"{name}: " + ", ".join(f"{v:.4g}" for v in values) for name, values in zip(names, levels, strict=True))
    return "; ".join(parts)
