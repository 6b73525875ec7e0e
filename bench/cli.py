"""The commands: parse, then one call each. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys

import click

from bench.commands import data, monitor, predict, reporting, scoring, study, tune, weights
from bench.commands.study import EXAMPLE
from bench.errors import INTERRUPTED, TERMINATED, is_users
from bench.failures import disk_is_full, full_disk_message
from bench.stopping import Terminated


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EXAMPLE)
@click.version_option(package_name="frozen-block-bench")
def cli() -> None:
    """Does a frozen LLM block help a 3D medical image segmenter? Trials, controls and reports."""


COMMANDS = (
    *(study.run, study.plan_command, study.status, study.list_command, study.doctor, tune.tune, monitor.monitor),
    *(reporting.report, reporting.compare, reporting.export),
    *(predict.predict, scoring.score, scoring.rescore),
    *(data.data, weights.weights),
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point: bad input ends with exit code 2 and one line a problem, never with a traceback."""
    try:
        sys.exit(cli.main(prog_name="python -m bench", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(INTERRUPTED)
    except Terminated:
        click.echo("stopped by SIGTERM", err=True)
        sys.exit(TERMINATED)
    except OSError as error:
        if not disk_is_full(error):
            raise
        click.echo(f"error: {full_disk_message(error)}", err=True)
        sys.exit(1)
    except ValueError as error:
        if not is_users(error):
            raise
        click.echo("\n".join(f"error: {line}" for line in str(error).splitlines()), err=True)
        sys.exit(2)
