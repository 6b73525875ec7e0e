"""`python -m tests.speed`: a JSON line a measurement on stdout, progress on stderr."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout

import click

from tests.speed import harness

EXAMPLE = """
\b
Examples:
  python -m tests.speed
  python -m tests.speed --only block-from-cache --only layer-from-shards
  python -m tests.speed --list

\b
Exit code: 0 every bar holds or cannot be decided here, 1 a bar falls short, 2 an unknown name.
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EXAMPLE)
@click.option("--only", multiple=True, metavar="NAME", help="Take this measurement alone; may be repeated.")
@click.option("--list", "listing", is_flag=True, help="Name the measurements and their bars; take none.")
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=harness.ENOUGH,
    show_default=True,
    help=f"Runs of each side; fewer than {harness.ENOUGH} give numbers and no verdict.",
)
def main(only: tuple[str, ...], listing: bool, runs: int) -> None:
    """Measure what the suite promises against its peers, in turns, and say which bars hold.

    One JSON line a measurement: name, ours, peer, peer_name, ratio (ours / peer), bar, holds (null: not decided),
    and rule, unit, runs, note. Both numbers are medians.
    """
    try:
        chosen = [harness.get(name) for name in only] or list(harness.measurements().values())
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if listing:
        for measured in chosen:
            click.echo(f"{measured.name:28} {measured.what}")
        return
    short = False
    for number, measured in enumerate(chosen, 1):
        harness.say(f"[{number}/{len(chosen)}] {measured.name}: {measured.what}")
        with redirect_stdout(sys.stderr):  # some libraries say things as they are imported
            line = harness.judged(measured, runs)
        click.echo(json.dumps(line, ensure_ascii=False))
        sys.stdout.flush()
        short = short or line["holds"] is False
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' bars would hide which run is on
    main(prog_name="python -m tests.speed")
