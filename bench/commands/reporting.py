"""The commands that turn records into something to read: report, compare, export."""

from __future__ import annotations

from pathlib import Path

import click

from bench.commands.console import console


@click.command(
    epilog="\b\nExamples:\n  python -m bench report runs/phantom-cpu --pdf\n"
    "  python -m bench report runs/phantom-cpu --profile v3\n"
    "  python -m bench report runs/seeds-0 runs/seeds-1 --to runs/all-seeds\n"
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="Folder to merge several runs into [A+B beside run A].")
@click.option("--pdf", is_flag=True, help="Also print the page as report.pdf; needs Chromium.")
@click.option(
    "--profile",
    type=click.Choice(("paper", "v3")),
    default="paper",
    show_default=True,
    help="Metrics of Tables 2 and 3: Dice, Jaccard, precision, accuracy; or with HD95 and its penalised form, NSD, "
    "sensitivity, specificity.",
)
def report(runs: tuple[Path, ...], to: Path | None, pdf: bool, profile: str) -> None:
    """Write results and report of a run folder anew from its records.

    Several runs are merged into one run folder, with one plan and one report. The same trial counts once; with other
    content it is an error. The runs stay as they are.
    """
    from bench.reporting import write_report

    for path in write_report(runs, to, pdf, profile):
        click.echo(path)


@click.command(epilog="\b\nExample:\n  python -m bench compare runs/a runs/b --metric jaccard\n")
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option("--metric", default="dice", show_default=True, help="Dice, or another column of the report.")
def compare(run_a: Path, run_b: Path, metric: str) -> None:
    """Compare two runs: each arm and task that both have, on the cases that both scored.

    B - A is the difference of the means over these cases, with its 95 % bootstrap interval over cases (over tasks and
    cases for all tasks). With few cases such intervals are too narrow: of 6 cases they hold the truth 83 times in 100,
    of 12 cases 88 times. Through a pipe: one row a line, tabs between its cells.
    """
    from bench.reporting import show_comparison

    show_comparison(run_a, run_b, metric.lower(), console())


@click.command(epilog="\b\nExample:\n  python -m bench export runs/phantom-cpu --to leaderboard.csv\n")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), required=True, help="CSV file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def export(run_folder: Path, to: Path, force: bool) -> None:
    """Write a run as the rows of a leaderboard: one a task and arm.

    \b
    task modality origin          the task; origin is `images` or `phantom`
    arm backbone control          the arm; `stand-in` and `random` are random weights
    layer fraction                the block's layer, the fraction of training cases
    cases complete expected       held-out cases; complete and planned trials
    <metric>_mean _sd             seeds averaged within a case, then cases, then classes; SD over cases
    <metric>_difference           to the baseline, on the same cases
    weights weights_sha256        what the weights are, and the hash of what was read
    data_digest split_digest      of the task's content; of the splits, one a fold
    settings_digest               of every setting of training, model, data and block
    commit versions               of the code (`+changes`: not as committed) and the packages
    """
    from bench.reporting import export as write

    click.echo(f"{to}: {write(run_folder, to, force)} rows")
