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
    """Get, make and check images: the decathlon, a sample, generated data."""


@data.command(
    "get",
    epilog="\b\nExamples:\n  python -m bench data get Task04_Hippocampus --to DIR\n  python -m bench data get all\n",
)
@click.argument("names", nargs=-1, required=True, metavar="NAME…|all")
@click.option(
    "--to", type=click.Path(path_type=Path), default=Path("data"), show_default=True, help="Folder to write to."
)
@click.option(
    "--from",
    "source",
    envvar="BENCH_MSD_MIRROR",
    metavar="URL|DIR",
    help="A mirror, or a folder, that holds NAME.tar [MONAI's addresses; or BENCH_MSD_MIRROR].",
)
@click.option("--keep-archive", is_flag=True, help="Keep the archives in the downloads folder of the cache.")
def data_get(names: tuple[str, ...], to: Path, source: str | None, keep_archive: bool) -> None:
    """Download tasks of the Medical Segmentation Decathlon, check and unpack them.

    A download that was broken off goes on where it was. Checksums are those of MONAI's DecathlonDataset.
    """
    from bench.decathlon import get_tasks

    get_tasks(names, to, source or "", keep_archive, console())


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


@data.command(
    "check",
    epilog="\b\nExamples:\n  python -m bench data check DIR\n  python -m bench data check DIR --cases > cases.tsv\n",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tasks", type=Names(), default=(), help="Task names; all in the folder when left out.")
@click.option("--cases", "by_case", is_flag=True, help="A row a case instead of a row a task.")
def data_check(folder: Path, tasks: tuple[str, ...], by_case: bool) -> None:
    """Look at every case of a data folder and name every problem; exit code 1 if there is one.

    Shapes and spacings are the median over the cases, with their range. Through a pipe, rows have tabs.
    """
    from bench.check_view import show_check

    sys.exit(show_check(folder, tasks, console(), by_case))


data.add_command(data_prepare)
