"""The commands: parse, then one call each. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.errors import INTERRUPTED, is_users
from bench.presets import PRESETS, parse_override
from bench.study import StudyError, StudySpec, load

EXAMPLE = """
\b
Examples:
  python -m bench run --backbones llama3,mistral
  python -m bench run --backbones smollm2 --data DIR --tasks Task90_SampleAbdomen
  python -m bench report runs/phantom-cpu
"""


#: Flags that are short for one setting.
SHORT = {
    "steps": ("train", "steps"),
    "rotary": ("block", "rotary"),
    "causal": ("block", "causal"),
    "block_dtype": ("block", "dtype"),
    "mapper_lora": ("model", "mapper_lora"),
}

#: Columns of a table that no terminal limits.
WIDE = 200


class Names(click.ParamType):
    """Comma-separated names."""

    name = "a,b,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        parts = value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(","))
        return tuple(part for part in parts if part)


class Numbers(click.ParamType):
    """Comma-separated whole numbers."""

    name = "0,1,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return value if isinstance(value, tuple) else tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 0,1,2", param, ctx)


STUDY_OPTIONS = [
    click.option("--study", type=click.Path(path_type=Path), help="A TOML file with these options; flags win."),
    click.option(
        "--backbones",
        type=Names(),
        metavar="NAME[@LAYER,…],…",
        help="Names from `bench list backbones`, checkpoint folders, .gguf files or hub repositories; `none` is the "
        "baseline alone. NAME@8,16 takes these layers instead of the last.",
    ),
    click.option(
        "--controls",
        type=Names(),
        help="What stands beside each block: standard (its frozen random twin) [standard], all, or names: "
        "random, shuffled, identity, mlp, depth, trainable, lora; none for the baseline alone.",
    ),
    click.option("--data", help="Folder with MSD-layout tasks. Left out: the phantom decathlon."),
    click.option("--tasks", type=Names(), help="Task names; all in the data folder when left out."),
    click.option("--seeds", type=Numbers(), help="Seeds [0]."),
    click.option("--folds", type=Numbers(), help="Folds of the cross-validation, from 0 [0]."),
    click.option("--preset", type=click.Choice(list(PRESETS)), help="Sizes and training [cpu]."),
    click.option(
        "--weights", multiple=True, metavar="NAME=PATH|OWNER/NAME|random", help="Where a backbone's weights are."
    ),
    click.option("--steps", type=int, help="Training steps of a trial; short for --set train.steps=N."),
    click.option("--set", "overrides", multiple=True, metavar="GROUP.NAME=VALUE", help="Override one preset setting."),
    click.option("--rotary", is_flag=True, default=None, help="Short for --set block.rotary=true."),
    click.option("--causal", is_flag=True, default=None, help="Short for --set block.causal=true."),
    click.option("--block-dtype", metavar="auto|fp32|bf16", help="Short for --set block.dtype=…"),
    click.option("--mapper-lora", type=int, metavar="RANK", help="LoRA of this rank on the mappers; the paper has 4."),
    click.option("--checkpointing", is_flag=True, default=None, help="Compute the block twice instead of keeping it."),
    click.option("--offline", is_flag=True, default=None, help="Touch no network: what is not here is an error."),
    click.option("--out", help="Run folder [runs/<data>-<preset>]."),
    click.option("--workers-per-trial", type=int, help="Data-parallel workers of one trial [1]."),
    click.option("--zero-stage", type=int, help="DeepSpeed ZeRO stage 0 to 3 [0]."),
    click.option("--max-concurrent", type=int, help="Trials at a time [as many as fit]."),
]


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(STUDY_OPTIONS):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EXAMPLE)
@click.version_option(package_name="frozen-block-bench")
def cli() -> None:
    """Does a frozen LLM block help a 3D medical image segmenter? Trials, controls and reports."""


@cli.command(epilog=EXAMPLE)
@study_options
def run(**given: Any) -> None:
    """Run a study: what is complete is not run again."""
    from bench.run import run_study

    sys.exit(run_study(_study(given), _console()))


@cli.command("plan", epilog="\b\nExample:\n  python -m bench plan --backbones llama3,mistral --seeds 0,1,2\n")
@study_options
def plan_command(**given: Any) -> None:
    """Show the trials of a study, their sizes and what is complete. Runs nothing."""
    from bench.show import show_plan

    show_plan(_study(given), _console())


@cli.command(
    epilog="\b\nExamples:\n  python -m bench report runs/phantom-cpu --pdf\n"
    "  python -m bench report runs/seeds-0 runs/seeds-1 --to runs/all-seeds\n"
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="Folder to merge several runs into [A+B beside run A].")
@click.option("--pdf", is_flag=True, help="Also print the page as report.pdf; needs Chromium.")
def report(runs: tuple[Path, ...], to: Path | None, pdf: bool) -> None:
    """Write results and report of a run folder anew from its records.

    Several runs are merged into one run folder, with one plan and one report. The same trial counts once; with other
    content it is an error. The runs stay as they are.
    """
    from bench.reporting import write_report

    for path in write_report(runs, to, pdf):
        click.echo(path)


@cli.command(epilog="\b\nExample:\n  python -m bench compare runs/a runs/b --metric jaccard\n")
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option("--metric", default="dice", show_default=True, help="Dice, or another column of the report.")
def compare(run_a: Path, run_b: Path, metric: str) -> None:
    """Compare two runs: each arm and task that both have, on the cases that both scored.

    B - A is the difference of the means over these cases. Through a pipe: one row a line, tabs between its cells.
    """
    from bench.reporting import show_comparison

    show_comparison(run_a, run_b, metric.lower(), _console())


@cli.command(epilog="\b\nExample:\n  python -m bench export runs/phantom-cpu --to leaderboard.csv\n")
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


@cli.command(epilog="\b\nExample:\n  python -m bench status runs/phantom-cpu\n")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
def status(run_folder: Path) -> None:
    """Planned, complete and failed trials of a run folder."""
    from bench.show import require_run, show_status

    show_status(require_run(run_folder), _console())


@cli.command("list", epilog="\b\nExample:\n  python -m bench list backbones\n")
@click.argument("what", type=click.Choice(["backbones", "tasks"]))
@click.option("--data", type=click.Path(path_type=Path), help="With `tasks`: the tasks of this folder instead.")
def list_command(what: str, data: Path | None) -> None:
    """List the backbones or the tasks."""
    from bench import listing

    listing.backbones_table(_console()) if what == "backbones" else listing.tasks_table(data, _console())


@cli.command(epilog="\b\nExample:\n  python -m bench doctor --data DIR\n")
@click.option("--data", type=click.Path(path_type=Path), help="A data folder to look into.")
def doctor(data: Path | None) -> None:
    """Versions, cores, GPUs, data, weights and hub as this machine has them."""
    from bench.doctor import examine

    sys.exit(examine(data, _console()))


@cli.group()
def data() -> None:
    """Sample data, phantom data, and a check of a data folder."""


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


@data.command("check", epilog="\b\nExample:\n  python -m bench data check DIR\n")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tasks", type=Names(), default=(), help="Task names; all in the folder when left out.")
def data_check(folder: Path, tasks: tuple[str, ...]) -> None:
    """Look at every case of a data folder and name every problem."""
    from bench.show import show_check

    sys.exit(show_check(folder, tasks, _console()))


@cli.group()
def weights() -> None:
    """Fetch, list and verify one-layer weight files."""


@weights.command("fetch", epilog="\b\nExample:\n  python -m bench weights fetch smollm2 llama3@8,16,31\n")
@click.argument("names", nargs=-1, required=True, metavar="NAME[@LAYER,…]…")
@click.option("--from", "source", help="A checkpoint folder, a .gguf file or a hub repository instead of the row's.")
@click.option("--offline", is_flag=True, help="Touch no network: only what huggingface_hub has on this machine.")
def weights_fetch(names: tuple[str, ...], source: str | None, offline: bool) -> None:
    """Read the last layer of each backbone, or the layers that are named, into the block cache."""
    if offline:
        go_offline()
    from bench.blocks import fetch_blocks

    fetch_blocks(names, source, _console())


@weights.command("list", epilog="\b\nExample:\n  python -m bench weights list\n")
def weights_list() -> None:
    """The blocks that are here, whole or damaged, by their headers alone."""
    from bench.blocks import show_blocks

    show_blocks(_console())


@weights.command("verify", epilog="\b\nExample:\n  python -m bench weights verify smollm2\n")
@click.argument("names", nargs=-1)
def weights_verify(names: tuple[str, ...]) -> None:
    """Read the blocks of these backbones, or all that are here, and compare each with its hash."""
    from bench.blocks import verify_blocks

    sys.exit(verify_blocks(names, _console()))


def _study(given: dict[str, Any]) -> StudySpec:
    """Defaults, then the TOML file, then flags."""
    path, overrides = given.pop("study"), given.pop("overrides")
    values = load(path) if path else {}
    settings = {group: dict(items) for group, items in values.pop("settings", {}).items()}
    for group, name, value in map(_override, overrides):
        settings.setdefault(group, {})[name] = value
    for flag, (group, name) in SHORT.items():
        if (value := given.pop(flag)) is not None:
            settings.setdefault(group, {})[name] = value
    weights = values.pop("weights", {}) | dict(_weight(text) for text in given.pop("weights"))
    flags = {name: value for name, value in given.items() if value is not None}
    command = "python -m bench " + shlex.join(sys.argv[1:])
    study = StudySpec(**(values | flags), settings=settings, weights=weights, command=command)
    if study.offline:
        go_offline()
    return study


def go_offline() -> None:
    """No network from here on. The hub's client reads this when it is imported, and Ray's workers inherit it."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def _override(text: str) -> tuple[str, str, str]:
    try:
        return parse_override(text)
    except ValueError as error:
        raise StudyError(str(error)) from error


def _weight(text: str) -> tuple[str, str]:
    name, equals, where = text.partition("=")
    return (name, where) if equals else ("*", _only_random(text))


def _only_random(text: str) -> str:
    if text != "random":
        raise click.BadParameter(f"{text!r} is neither NAME=PATH nor `random`", param_hint="--weights")
    return text


def _console() -> Any:
    """For a person, as wide as the terminal; through a pipe, wide enough to keep each row on one line."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    return console if console.is_terminal else Console(width=WIDE, soft_wrap=True)


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
    except ValueError as error:
        if not is_users(error):
            raise
        click.echo("\n".join(f"error: {line}" for line in str(error).splitlines()), err=True)
        sys.exit(2)
