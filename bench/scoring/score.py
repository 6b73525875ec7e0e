"""`bench score`: from two folders to tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from bench.data.nifti import DataError
from bench.progress import TrialProgress
from bench.scoring import external, files, folder, show


@dataclass(frozen=True)
class Asked:
    """What the user asked: the flags of `bench score`, by their names. workers and tolerance: None for the default."""

    prediction: Path
    reference: Path
    labels: str | None = None
    task: str | None = None
    name: str = "predictions"
    suffix: str = ""
    partial: bool = False
    profile: str = "paper"
    tolerance: float | None = None
    workers: int | None = None
    to: Path | None = None
    beside: Path | None = None
    command: str = ""


def score(asked: Asked, console: Console) -> None:
    """Score, print, and write. DataError, with every problem, where a file or a pair of them is not to be scored."""
    external.checked_name(asked.name)
    if asked.to is not None:
        external.checked_folder(asked.to)
    named = folder.names_of(asked.reference, asked.labels, asked.task)
    pairs = folder.pair_up(asked.prediction, asked.reference, asked.suffix, asked.partial)
    tolerance = named.tolerance if asked.tolerance is None else asked.tolerance
    if not 0 <= tolerance < math.inf:
        raise DataError(f"--tolerance {tolerance}: is no distance in mm")
    values, patients = tuple(named.values.items()), dict(named.patients)
    jobs = {
        case: files.Job(case, patients.get(case, case), ours, theirs, values, tolerance)
        for case, (ours, theirs) in pairs.found.items()
    }
    workers = asked.workers or files.fitting_workers(jobs)
    watcher = console if console.is_terminal else Console(stderr=True)
    with TrialProgress({case: case for case in jobs}, watcher, "cases") as progress:
        scored = files.score_all(jobs, workers, lambda case: progress.update(case, 1.0))
    whose = external.Predictions(asked.name, asked.prediction, named, tolerance, asked.command)
    whole = external.record(whose, scored)
    records = external.beside(asked.beside, whole) if asked.beside else [whole]
    show.show(records, asked.profile, console)
    _say(pairs, tolerance)
    if asked.to is None:
        return
    external.write(asked.to, records)
    told = {
        "name": asked.name,
        "task": named.task,
        "labels": {str(value): name for value, name in named.values.items()},
        "prediction": str(asked.prediction),
        "reference": str(asked.reference),
        "tolerance_mm": tolerance,
        "cases": len(jobs),
        "missing": list(pairs.missing),
        "extra": list(pairs.extra),
    }
    for path in show.write_files(asked.to, records, asked.profile, told):
        click.echo(path, err=not console.is_terminal)


def _say(pairs: folder.Pairs, tolerance: float) -> None:
    """What the numbers were made of, out of the way of what is piped on."""
    left_out = [f"{len(pairs.missing)} without a prediction"] * bool(pairs.missing)
    left_out += [f"{len(pairs.extra)} without a reference"] * bool(pairs.extra)
    told = f"; left out: {', '.join(left_out)}" if left_out else ""
    cases = "1 case" if len(pairs.found) == 1 else f"{len(pairs.found)} cases"
    click.echo(f"{cases} scored{told}; NSD within {tolerance:g} mm", err=True)
