"""Scores of a folder as a table to look at, and as files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from results import store, summary
from results.audit import COLUMNS, audit
from results.metrics import METRICS, PROFILES
from results.record import TrialResult


def score_rows(records: list[TrialResult], profile: str) -> pd.DataFrame:
    """case, label and the profile's metrics: a row a score, then `mean` of each label over cases, then over labels."""
    names = list(PROFILES[profile])
    scores = summary.long_table(records)[["case", "label", *names]]
    labels = scores.groupby("label", sort=False)[names].mean()
    mean = labels.mean().to_frame().T.assign(case="mean", label="all")
    return pd.concat([scores, labels.reset_index().assign(case="mean"), mean], ignore_index=True)


def show(records: list[TrialResult], profile: str, console: Console) -> None:
    """The table, then the audit of empty masks. Through a pipe: rows of tabs, a cell empty where undefined."""
    rows = score_rows(records, profile)
    header = ["case", "label", *(_heading(name) for name in PROFILES[profile])]
    texts = [
        [str(row[0]), str(row[1]), *("" if pd.isna(value) else f"{value:.4f}" for value in row[2:])]
        for row in rows[["case", "label", *PROFILES[profile]]].itertuples(index=False)
    ]
    _print(header, texts, console, f"{records[0].spec.task}: {records[0].spec.backbone}", 2)
    found = _audited(records)
    if found.empty:
        click.echo("no mask is empty", err=not console.is_terminal)
        return
    cells = [[str(value) for value in row] for row in found.itertuples(index=False)]
    click.echo()
    _print(list(found.columns), cells, console, "audit of empty masks", 1)


def write_files(to: Path, records: list[TrialResult], profile: str, more: dict[str, Any]) -> list[Path]:
    """results.csv and results.parquet of all that `to` holds, and results.json of these records, means and audit."""
    csv, parquet = summary.write_results(to, summary.long_table(store.read(to)))
    frame = summary.long_table(records)
    rows = score_rows(records, profile)
    body = more | {
        "metrics": {name: {"unit": METRICS[name].unit, "higher_is_better": METRICS[name].higher_is_better}
                    for name in PROFILES[profile]},
        "scores": _plain(frame[["case", "patient", "label", *summary.COLUMNS[summary.COLUMNS.index("tp") :]]]),
        "means": _plain(rows[rows["case"] == "mean"].drop(columns="case")),
        "audit": _plain(audit(frame, summary.trial_table(records))),
    }  # fmt: skip
    path = to / "results.json"
    store.atomic_write(path, (json.dumps(body, indent=1, allow_nan=False) + "\n").encode())
    return [csv, parquet, path]


def _audited(records: list[TrialResult]) -> pd.DataFrame:
    """The labels of which a mask is empty."""
    table = audit(summary.long_table(records), summary.trial_table(records))
    return table.loc[(table[list(COLUMNS)] > 0).any(axis=1), ["label", "scores", *COLUMNS]]


def _heading(metric: str) -> str:
    unit = METRICS[metric].unit
    return METRICS[metric].title + f" ({unit})" * bool(unit)


def _print(header: list[str], rows: Iterable[list[str]], console: Console, title: str, left: int) -> None:
    if not console.is_terminal:
        for row in (header, *rows):
            click.echo("\t".join(row))
        return
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place < left else "right")
    for row in rows:
        table.add_row(*(cell or "–" for cell in row))
    console.print(table)


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: None where a value is undefined."""
    rows = frame.to_dict("records")
    return [{key: None if pd.isna(value) else value for key, value in row.items()} for row in rows]
