"""`bench data prepare`: the images of a study made ready ahead of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from bench.commands.asked import study_of
from bench.commands.console import console
from bench.commands.options import study_options

#: The flags of a study that change what is prepared.
_WANTED = ("study", "data", "tasks", "labels", "folds", "fractions", "preset", "overrides")

EXAMPLE = """
\b
Examples:
  python -m bench data prepare --data DIR --tasks Task09_Spleen --folds 0,1,2,3,4 --preset default
  python -m bench data prepare --data DIR --set data.window=-160,240 --memory 8G

\b
Exit code: 0 all is prepared, 1 some cases failed (the others are prepared), 2 bad input, 130 after Ctrl-C.
"""


def _study_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The flags of `bench run` that matter here, each with the same name and help."""
    study_options(command)
    parameters = command.__click_params__  # type: ignore[attr-defined]
    parameters[:] = [parameter for parameter in parameters if parameter.name in _WANTED]
    return command


@click.command("prepare", epilog=EXAMPLE)
@click.option("--workers", type=click.IntRange(min=1), help="Processes at a time [as many as there are cores].")
@click.option("--memory", metavar="SIZE", help="What they may take together, such as 8G [80 % of what is free].")
@_study_flags
def data_prepare(workers: int | None, memory: str | None, **given: Any) -> None:
    """Prepare the cases of a study ahead, in several processes; what is prepared already is kept.

    Cases lie in the cache folder (BENCH_CACHE) and are shared by all trials and studies with the same data settings.
    """
    from bench.data.ahead import size_of
    from bench.preparing import prepare_study

    study = study_of({"weights": (), **given})
    sys.exit(prepare_study(study, console(), workers, size_of(memory, "--memory") if memory else None))
