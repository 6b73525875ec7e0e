"""What flags take, and the flags of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench import trackers
from bench.presets import PRESETS


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


class Folds(Numbers):
    """Comma-separated whole numbers, or `all`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "all" else super().convert(value, param, ctx)


class Fractions(click.ParamType):
    """Comma-separated parts of the whole, above 0 and at most 1; their range is checked by the study."""

    name = "0.1,0.3,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            return value if isinstance(value, tuple) else tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of fractions such as 0.1,0.3,1.0", param, ctx)


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
    click.option(
        "--references",
        type=Names(),
        help="Models of others to train beside: names from `bench list references`, or all.",
    ),
    click.option(
        "--data",
        metavar="DIR|FILE.csv",
        help="Folder of tasks in the layout of MSD or nnU-Net, one task folder, or a CSV file with the columns image "
        "(a path, or one a channel with `;` between), label, and if need be patient, case and modality; paths are "
        "absolute or relative to the file, class names stand beside it in labels.json, such as "
        '{"liver": 1}. Left out: the phantom decathlon.',
    ),
    click.option("--tasks", type=Names(), help="Task names; all in the data folder when left out."),
    click.option("--seeds", type=Numbers(), help="Seeds [0]."),
    click.option(
        "--labels",
        type=click.Choice(["official", "binary"]),
        help="binary merges all foreground of a task into one label, and adds -binary to its name [official].",
    ),
    click.option(
        "--folds",
        type=Folds(),
        metavar="0,1,…|all",
        help="Folds of the cross-validation, from 0 [0]; all: every fold that a task has, five or its patients.",
    ),
    click.option(
        "--fraction",
        "fractions",
        type=Fractions(),
        help="Parts of the training patients, each within the next larger one, a trial each [1.0].",
    ),
    click.option("--preset", type=click.Choice(list(PRESETS)), help="Sizes and training [cpu]."),
    click.option(
        "--weights", multiple=True, metavar="NAME=PATH|OWNER/NAME|random", help="Where a backbone's weights are."
    ),
    click.option("--steps", type=int, help="Training steps of a trial; short for --set train.steps=N."),
    click.option(
        "--budget",
        metavar="90s|10m|2h|'N steps'|'N epochs'",
        help="How long each trial trains, in place of --steps. Fair by time: --budget 10m --max-concurrent 1.",
    ),
    click.option("--set", "overrides", multiple=True, metavar="GROUP.NAME=VALUE", help="Override one preset setting."),
    click.option("--rotary", is_flag=True, default=None, help="Short for --set block.rotary=true."),
    click.option("--causal", is_flag=True, default=None, help="Short for --set block.causal=true."),
    click.option("--block-dtype", metavar="auto|fp32|bf16", help="Short for --set block.dtype=…"),
    click.option("--attention", type=Names(), metavar="global,hybrid", help="Over all tokens, or with a local branch."),
    click.option("--fusion", type=Names(), metavar="none,multiscale", help="What the decoder receives of the encoder."),
    click.option(
        "--placement",
        type=Names(),
        metavar="after,middle,…",
        help="The block after the encoder, in the middle, before, or at two places: middle+after.",
    ),
    click.option(
        "--second-layer",
        metavar="LAYER",
        help="Of two places the second gets another block of the model, that of this layer; the first has the layer of "
        "--backbones. Short for --set block.second_layer=… [the same block at both].",
    ),
    click.option("--residual", type=Names(), metavar="true,false", help="Whether the block's input is added to it."),
    click.option("--decoder", type=Names(), metavar="linear,skip,subpixel", help="Short for --set model.decoder=…"),
    click.option(
        "--mapper-lora", type=Names(), metavar="RANK,…", help="LoRA of this rank on the mappers; the paper has 4."
    ),
    click.option("--checkpointing", is_flag=True, default=None, help="Less memory: activations are computed twice."),
    click.option(
        "--checkpoint-every",
        metavar="5m|'2 epochs'|never",
        help="How often a trial keeps what it needs to go on after its process was killed [5m].",
    ),
    click.option(
        "--retry-diverged", is_flag=True, default=None, help="Run trials again whose loss ceased to be a number."
    ),
    click.option("--activations", type=int, help="Held-out cases a trial keeps activation maps of [2]; 0 for none."),
    click.option(
        "--validation-crops",
        type=int,
        help="Crops of held-out cases for the validation Dice of a curve's epoch, which is only shown [2]; 0 for none.",
    ),
    click.option("--offline", is_flag=True, default=None, help="Touch no network: what is not here is an error."),
    click.option(
        "--models/--no-models", "keep_models", default=None, help="Keep each trained model for `bench predict` [kept]."
    ),
    click.option("--out", help="Run folder [runs/<data>-<preset>]."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        help="Short for --set train.precision=…; fp16 scales the loss, and needs ZeRO stage 0.",
    ),
    click.option("--workers-per-trial", type=int, help="Data-parallel workers of one trial [1]."),
    click.option(
        "--gpus-per-worker",
        type=float,
        help="0, 1, or a part of one that trials share [1 where there are any].",
    ),
    click.option(
        "--cpus-per-worker", type=int, help="Cores of a worker [1; all that no other trial uses, for a lone worker]."
    ),
    click.option("--loader-threads", type=int, help="Threads that cut crops ahead [2 on a GPU, none on a CPU]."),
    click.option("--zero-stage", type=int, help="DeepSpeed ZeRO stage 0 to 3 [0]; fp16 takes 0."),
    click.option("--max-concurrent", type=int, help="Trials at a time [as many as fit]."),
    click.option("--log", type=click.Choice(trackers.KNOWN), help="Also tell this tracker; needs its extra."),
    click.option(
        "--address",
        metavar="auto|HOST:PORT|ray://HOST:PORT",
        help="A Ray cluster that is running, and that is left running; see examples/cluster [a Ray of our own].",
    ),
]


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(STUDY_OPTIONS):
        command = option(command)
    return command
