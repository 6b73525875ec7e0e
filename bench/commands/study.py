"""The commands of a study: run, plan, status; and what there is to run it with: list, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bench.commands.asked import study_of
from bench.commands.console import console
from bench.commands.options import study_options

EXAMPLE = """
\b
Examples:
  python -m bench run --backbones llama3,mistral
  python -m bench run --backbones smollm2 --data DIR --tasks Task90_SampleAbdomen
  python -m bench run --backbones none --references segresnet,unetr --budget 10m --max-concurrent 1
  python -m bench run --backbones smollm2 --data mine.csv --labels binary --folds all --fraction 0.1,0.3,1.0
  python -m bench report runs/phantom-cpu
"""


@click.command(epilog=EXAMPLE)
@study_options
def run(**given: Any) -> None:
    """Run a study: what is complete is not run again."""
    from bench.run import run_study

    sys.exit(run_study(study_of(given), console()))


@click.command("plan", epilog="\b\nExample:\n  python -m bench plan --backbones llama3,mistral --seeds 0,1,2\n")
@study_options
def plan_command(**given: Any) -> None:
    """Show the trials of a study, their sizes and what is complete. Runs nothing."""
    from bench.show import show_plan

    show_plan(study_of(given), console())


@click.command(epilog="\b\nExample:\n  python -m bench status runs/phantom-cpu --watch\n")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Go on until the run ends; Ctrl-C stops the watching, not the run.")
def status(run_folder: Path, watch: bool) -> None:
    """Where a run stands: complete, failed, running and interrupted trials, from any shell that sees its folder."""
    from bench.show import require_run
    from bench.status import show_status

    show_status(require_run(run_folder), console(), watch)


@click.command("list", epilog="\b\nExample:\n  python -m bench list backbones\n")
@click.argument("what", type=click.Choice(["backbones", "references", "tasks"]))
@click.option("--data", type=click.Path(path_type=Path), help="With `tasks`: the tasks of this folder instead.")
def list_command(what: str, data: Path | None) -> None:
    """List the backbones, the reference models or the tasks."""
    from bench import listing

    if what == "tasks":
        listing.tasks_table(data, console())
    else:
        (listing.backbones_table if what == "backbones" else listing.references_table)(console())


@click.command(epilog="\b\nExample:\n  python -m bench doctor --data DIR\n")
@click.option("--data", type=click.Path(path_type=Path), help="A data folder to look into.")
def doctor(data: Path | None) -> None:
    """Versions, cores, GPUs, data, weights and hub as this machine has them."""
    from bench.doctor import examine

    sys.exit(examine(data, console()))
