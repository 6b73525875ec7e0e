"""`bench list`: what can be named on the command line. No torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

import backbones
from backbones import weights
from backbones.spec import BackboneSpec
from mvl import references


def backbones_table(console: Console) -> None:
    """A row a backbone, and whether its block is here."""
    table = Table(*("name", "family", "width", "layers", "block parameters", "licence", "gated", "block here", "size"))
    for spec in map(backbones.get, backbones.names()):
        numbers = [str(value) for value in (spec.width, spec.layers)]
        gated = "yes" if spec.gated else "no"
        parameters = f"{backbones.block_parameters(spec):,}"
        table.add_row(spec.name, spec.family, *numbers, parameters, spec.licence, gated, presence(spec), size_of(spec))
    console.print(table)
    console.print("size: that of the block's file; with ~, what 16 bits a parameter would take where it is not here")


def references_table(console: Console) -> None:
    """A row a reference model of `--references`."""
    table = Table("name", "model", "source", "features", "features of the preset cpu")
    for row in references.REGISTRY.values():
        table.add_row(row.name, row.title, row.source, str(row.published), str(row.small))
    console.print(table)
    console.print("features: channels at full resolution; --set reference.NAME=N sets others")


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


def size_of(spec: BackboneSpec) -> str:
    """Bytes of the block's file, or an estimate of what is to be fetched."""
    try:
        kept = weights.find(spec, spec.layer)
    except weights.WeightsError:
        kept = None
    return megabytes(kept.path.stat().st_size) if kept else f"~{megabytes(2 * backbones.block_parameters(spec))}"


def megabytes(size: int) -> str:
    """`436 MB`, `7.1 MB`."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


def presence(spec: BackboneSpec) -> str:
    """Whether the backbone's block is in the cache: yes, no, or damaged."""
    try:
        return "yes" if weights.find(spec, spec.layer) is not None else "no"
    except weights.WeightsError:
        return "damaged"
