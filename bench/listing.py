"""`bench list`: what can be named on the command line. No torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

import backbones
from backbones import weights
from backbones.spec import BackboneSpec


def backbones_table(console: Console) -> None:
    """A row a backbone, and whether its block is here."""
    table = Table("name", "family", "width", "layers", "layer", "block parameters", "licence", "gated", "block here")
    for spec in map(backbones.get, backbones.names()):
        size = f"{backbones.block_parameters(spec):,}"
        numbers = [str(value) for value in (spec.width, spec.layers, spec.layer)]
        gated = "yes" if spec.gated else "no"
        table.add_row(spec.name, spec.family, *numbers, size, spec.licence, gated, presence(spec))
    console.print(table)


def tasks_table(data: Path | None, console: Console) -> None:
    """The ten tasks of the decathlon, or those of a data folder."""
    from bench.data.tasks import DECATHLON, TaskSpec

    tasks: list[TaskSpec] = list(DECATHLON)
    if data is not None:
        from bench.data.folder import open_task, task_names

        tasks = [open_task(data, name).spec for name in task_names(data)]
    table = Table("name", "modality", "channels", "labels", "training cases")
    for task in tasks:
        table.add_row(task.name, task.modality, ", ".join(task.channels), ", ".join(task.labels), str(task.training))
    console.print(table)


def presence(spec: BackboneSpec) -> str:
    """Whether the backbone's block is in the cache: yes, no, or damaged."""
    try:
        return "yes" if weights.find(spec, spec.layer) is not None else "no"
    except weights.WeightsError:
        return "damaged"
