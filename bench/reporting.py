"""What is made of finished runs: one report, a comparison, a leaderboard's rows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from bench import plan
from bench.run import write_outputs
from bench.show import require_run
from bench.study import StudyError
from results import merge, store
from results.record import TrialSpec

if TYPE_CHECKING:
    from results.compare import Comparison

_LONGEST_NAME = 120


def write_report(runs: Sequence[Path], to: Path | None = None, pdf: bool = False, profile: str = "paper") -> list[Path]:
    """The page of one run, or of several merged into the folder `to`, and with pdf the PDF beside it.

    profile: which metrics its tables of scores show, one of `results.metrics.PROFILES`.

    Raises StudyError, RecordError or ReportError before anything is written where the runs cannot be merged, or where
    there is no browser to print with.
    """
    from reports import pdf as printer

    if pdf:
        printer.browser()
    runs = list(map(require_run, runs))
    run = runs[0] if len(runs) == 1 and to is None else _merged(runs, to or beside(runs))
    page = write_outputs(run, profile)
    return [page, printer.write_pdf(page)] if pdf else [page]


def beside(runs: Sequence[Path]) -> Path:
    """Where several runs are merged if nobody says: beside the first, by the names of all."""
    name = "+".join(dict.fromkeys(run.resolve().name for run in runs))
    if len(name) > _LONGEST_NAME:
        raise StudyError(f"--to: {len(runs)} runs make too long a name; name the folder of their report with --to DIR")
    return runs[0].resolve().parent / name


def _merged(runs: Sequence[Path], to: Path) -> Path:
    """The run folder in which the records and the plans of these runs are together."""
    if to.exists() and not to.is_dir():
        raise StudyError(f"--to {to}: is a file; give a folder")
    if any(to.resolve() == run.resolve() for run in runs):
        raise StudyError(f"--to {to}: is one of the runs, which stay as they are; give another folder")
    specs = _plans(runs)
    merge.merge(runs, to)
    plan.remember(to, specs)
    return to


def _plans(runs: Sequence[Path]) -> list[TrialSpec]:
    """What was planned in any of the runs; StudyError where two plans differ about a trial that tables know as one."""
    first: dict[tuple[object, ...], tuple[Path, TrialSpec]] = {}
    found: dict[str, TrialSpec] = {}
    for run in runs:
        for spec in plan.expected(run):
            where, before = first.setdefault(merge.slot(spec), (run, spec))
            if other := merge.difference(before, spec):
                raise StudyError(
                    f"{where / plan.FILE} and {run / plan.FILE} plan {spec.title}, each with another {other}; "
                    "such runs cannot be merged, but `bench compare` takes them"
                )
            found.setdefault(spec.digest, spec)
    return list(found.values())


def show_comparison(a: Path, b: Path, metric: str, console: Console) -> None:
    """Arms × tasks that both runs have, and what only one has. A table for a person; through a pipe, rows of tabs."""
    from results import compare, summary

    if metric not in summary.METRICS:
        near = difflib.get_close_matches(metric, summary.METRICS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise StudyError(f"--metric: unknown metric {metric!r}{hint} known: {', '.join(summary.METRICS)}")
    found = compare.compare(store.read(require_run(a)), store.read(require_run(b)), metric)
    notes = _notes(a, b, found)
    if found.rows.empty:
        raise StudyError("\n".join([f"{a} and {b} have no scored case of an arm in common", *notes]))
    header = ("task", "arm", "A", "B", "B - A", "95 % interval", "cases", "trials of A", "of B")
    rows = [_shown(row) for row in found.rows.itertuples(index=False)]
    if not console.is_terminal:
        for row in (header, *rows):
            click.echo("\t".join(row))
    else:
        table = Table(*header[:2], title=f"mean {metric.replace('_', ' ')}; A: {a}, B: {b}", title_justify="left")
        for name in header[2:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for note in notes:
        click.echo(note, err=not console.is_terminal)


def _shown(row: tuple[object, ...]) -> tuple[str, ...]:
    task, arm, a, b, difference, low, high, *counts = row
    interval = "" if low != low else f"{low:+.4f} to {high:+.4f}"
    return (str(task), str(arm), f"{a:.4f}", f"{b:.4f}", f"{difference:+.4f}", interval, *map(str, counts))


def _notes(a: Path, b: Path, found: Comparison) -> list[str]:
    """What a reader must know beside the numbers, a line each."""
    return [
        *(f"not compared: {text}" for text in found.unpaired),
        *(f"only in {a}: {text}" for text in found.only_a),
        *(f"only in {b}: {text}" for text in found.only_b),
        *(f"set otherwise: {text}" for text in found.settings),
    ]


def export(run: Path, to: Path, force: bool = False) -> int:
    """Write the leaderboard's rows of a run as CSV, and return how many they are.

    A file that is there is replaced only with force.
    """
    from results import leaderboard

    if to.is_dir():
        raise StudyError(f"--to {to}: is a folder; give a file, such as {to / 'leaderboard.csv'}")
    if to.exists() and not force:
        raise StudyError(f"--to {to}: is there already; replace it with --force, or give another file")
    records = store.read(require_run(run))
    if not records:
        raise StudyError(f"{run}: has no trial record yet; run its study first")
    frame = leaderboard.table(records, plan.expected(run))
    try:
        store.atomic_write(to, frame.to_csv(index=False, lineterminator="\n").encode())
    except OSError as error:
        raise StudyError(f"--to {to}: cannot be written ({error.strerror}); give another file") from error
    return len(frame)
