"""The commands that score without a model: anyone's predictions, and a run's own counts again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from bench.commands.console import console

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="\b\nExamples:\n"
    "  python -m bench score --prediction fold_0/validation --reference data/Task09_Spleen --partial\n"
    "  python -m bench score --prediction out --reference labels --labels 1=liver,2=tumour --suffix _trans\n"
    "  python -m bench score --prediction out --reference data/Task09_Spleen --name nnunet \\\n"
    "      --beside runs/spleen --to runs/nnunet && python -m bench report runs/spleen runs/nnunet\n"
)
@click.option("--prediction", type=_FOLDER, required=True, help="Folder of predicted label files, .nii or .nii.gz.")
@click.option("--reference", type=_FOLDER, required=True, help="Folder of reference labels, or a task's folder.")
@click.option(
    "--labels",
    metavar="1=NAME,…|binary",
    help="Names of the values, 1=liver,2=tumour; binary: one label of all, as a study with --labels binary has it "
    "[dataset.json beside or above the reference].",
)
@click.option("--task", help="The task's name in tables [that of the folder with dataset.json].")
@click.option("--name", default="predictions", show_default=True, help="What the predictions are called in tables.")
@click.option("--suffix", default="", help="An ending of the predictions' names to leave out, as MONAI's _trans.")
@click.option("--partial", is_flag=True, help="Score the cases that both folders have; else a missing one is an error.")
@click.option(
    "--profile",
    type=click.Choice(["paper", "v3"]),
    default="paper",
    show_default=True,
    help="Dice, Jaccard, precision, accuracy; or v3: Dice, Jaccard, HD95 and its penalised form, NSD, sensitivity, "
    "specificity.",
)
@click.option("--tolerance", type=float, help="NSD's tolerance in mm [the task's own, or 2].")
@click.option("--workers", type=click.IntRange(min=1), help="Processes [as many as cores and memory allow].")
@click.option("--to", type=_FOLDER, help="Write results.csv, .parquet and .json here, and a record for `bench report`.")
@click.option("--beside", type=_FOLDER, help="A run with the same held-out cases, whose folds the record takes over.")
def score(**given: Any) -> None:
    """Score anyone's NIfTI predictions with the code and the tables of a study.

    Files are paired by name. A row a case and label, then means over cases for each label, then over labels;
    background is in no mean. Through a pipe: one row a line, tabs between its cells, undefined ones empty.
    """
    from bench.scoring.score import Asked
    from bench.scoring.score import score as run

    run(Asked(**given, command=shlex.join(["python", "-m", "bench", *sys.argv[1:]])), console())


@click.command(epilog="\b\nExample:\n  python -m bench rescore runs/phantom-cpu\n")
@click.argument("run_folder", metavar="RUN", type=_FOLDER)
def rescore(run_folder: Path) -> None:
    """Compute every ratio again from the stored counts, without a model, and write results and report anew.

    Says how many values differ from the results.csv that was there. `bench report` writes the same files without
    looking.
    """
    from bench.scoring.rescore import rescore as run

    for line in run(run_folder):
        click.echo(line)
