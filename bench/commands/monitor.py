"""The command that prepares the watching of runs from outside: monitor."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="\b\nExample:\n  python -m bench monitor runs/phantom-cpu --to monitoring\n")
@click.argument("run_folder", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder for the files.")
def monitor(run_folder: Path | None, to: Path) -> None:
    """Write what Prometheus and Grafana need to watch runs: scrape file, data source, dashboard; and how to start both.

    Loss and Dice of training crops, samples a second, epoch and share of each running trial, and the Dice of held-out
    cases once it is scored, by task and backbone. With RUN, of the Ray on which that run is at work; else of the one
    that was started last on this machine. Without Prometheus, `bench status --watch`, TensorBoard and the report show
    them.
    """
    from bench import monitor as files
    from bench.show import require_run
    from bench.study import StudyError

    targets = files.targets_of(require_run(run_folder) if run_folder else None)
    try:
        for path in files.write(to, targets):
            click.echo(path)
    except OSError as error:
        raise StudyError(f"--to {to}: cannot be written ({error.strerror}); give another folder") from error
    click.echo(files.how_to_start(to))
