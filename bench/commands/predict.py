"""`bench predict`: labels of new images by a trained trial."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLE = """
\b
Examples:
  python -m bench predict runs/msd-cpu/Task09_Spleen/smollm2 ct.nii.gz --to predictions
  python -m bench predict runs/msd-cpu/1f0c52 images/ --to predictions --probabilities
"""


@click.command(epilog=EXAMPLE)
@click.argument("trial", metavar="RUN/TRIAL", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.option("--probabilities", is_flag=True, help="Also write the class probabilities, 4D, into DIR/probabilities.")
def predict(trial: Path, images: tuple[Path, ...], to: Path, force: bool, probabilities: bool) -> None:
    """Predict images with a trial's trained model, and write NIfTI labels with each image's affine and shape.

    TRIAL is a digest or its first figures, TASK, TASK/ARM, or a record's path below RUN/trials; nothing, where RUN has
    but one trial. IMAGE is a NIfTI file (4D for several channels), the first of several channels' files
    (case_0000.nii.gz, case_0001.nii.gz, …; written as case.nii.gz), or a folder of either.

    Values are those of dataset.json: 0 is background, 1 the first label.
    """
    from bench.commands.console import console
    from bench.prediction import predict_images

    for path in predict_images(trial, images, to, force, probabilities, console()):
        click.echo(path)
