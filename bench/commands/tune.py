"""`bench tune`: search settings on the inner validation cases of a fold."""

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
  python -m bench tune --backbones smollm2 --data DIR --tasks Task09_Spleen --to tuned.toml
  python -m bench tune --backbones smollm2@8,16,24 --data DIR --tasks Task09_Spleen \\
      --search lr=1e-4..1e-2 --search placement=after,middle --samples 40 --to tuned.toml
  python -m bench run --study tuned.toml
"""


@click.command("tune", epilog=EXAMPLE)
@study_options
@click.option(
    "--search",
    "dimensions",
    multiple=True,
    metavar="NAME=VALUES",
    help="What is varied, an option each: lr=1e-4..1e-2 (log-uniform) or lr=1e-3,3e-3, layer=8,16,24, "
    "placement=after,middle, mapper_lora=0,4,8, attention=global,hybrid, and lora_rank=2,4,8, which trains the arm of "
    "the control lora. It takes the place of what the study says. Left out: lr, placement, mapper_lora, attention, "
    "and the layers that --backbones names or whose blocks are here.",
)
@click.option("--samples", type=int, default=20, help="Choices of values to try [20].")
@click.option(
    "--method",
    type=click.Choice(["asha", "random", "optuna"]),
    default="asha",
    help="asha draws at random and stops weak samples early; random trains all to the end; optuna chooses by what it "
    "has seen (needs the package optuna) [asha].",
)
@click.option(
    "--rungs",
    type=click.IntRange(min=1),
    help="Places in the training at which a sample is scored: the end, a third of it, a ninth, … [asha: 3; else 1].",
)
@click.option("--to", type=click.Path(path_type=Path), help="The winner as a TOML study [<run folder>/tuned.toml].")
def tune(
    dimensions: tuple[str, ...], samples: int, method: str, rungs: int | None, to: Path | None, **given: Any
) -> None:
    """Search learning rate, layer, placement, LoRA rank and attention for one backbone on one task and fold.

    The training cases of the fold are split again by patient; a sample is scored by its mean foreground Dice on the
    inner validation cases, on their native grid. The cases that the fold holds out are never opened. The same command
    goes on where it was stopped.
    """
    from bench.tuning.search import Wish
    from bench.tuning.tune import tune as search

    wish = Wish(dimensions, samples, method, rungs or 0)
    sys.exit(search(study_of(given), wish, to, console()))
