"""`bench weights`: fetch, list and verify the one-layer files of the block cache."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

import backbones
from backbones import weights
from backbones.errors import UnknownBackbone
from backbones.request import Request, parse, resolve
from backbones.spec import BackboneSpec
from bench.listing import megabytes


def fetch_blocks(names: tuple[str, ...], source: str | None, console: Console) -> None:
    """Each backbone's layers into the block cache; names and layers are checked before the first download."""
    found = [resolve(request) for request in parse(names)]
    for backbone in found:
        for layer in backbone.layers:
            # What the registry does not know is kept where a study that names it alike will look.
            _fetch(backbone.spec, layer, source or backbone.source, backbone.source is not None, console)


def _fetch(spec: BackboneSpec, layer: int, source: str | None, apart: bool, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"{spec.name}, layer {layer}", total=None, visible=False)

        def on_bytes(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=True)

        block = weights.fetch(spec, layer, source, progress=say, apart=apart, on_bytes=on_bytes)
    say(f"{spec.name}: block {block.layer} of {block.source}, sha256 {block.sha256[:12]}: {block.path}")


def show_blocks(console: Console) -> None:
    """A row a block file, whole or damaged."""
    table = Table("name", "block", "source", "sha256", "licence", "size")
    for found in weights.survey(hashes=False):
        size = megabytes(found.path.stat().st_size)
        block = found.block
        told = (block.source, block.sha256[:12], block.licence) if block else (found.problem, "damaged", "")
        table.add_row(found.backbone, str(found.layer), *told, size)
    console.print(table)
    if not table.row_count:
        console.print("no block is here: `python -m bench weights fetch NAME` gets one")


def verify_blocks(names: tuple[str, ...], console: Console) -> int:
    """A line a block; 1 if one is damaged, or none is here of what was named. UnknownBackbone for an unknown name."""
    asked = parse(names)
    found = weights.survey([request.what for request in asked])
    found = [finding for finding in found if not asked or _is_asked(finding, asked)]
    absent = [request for request in asked if not any(_is_asked(finding, [request]) for finding in found)]
    for request in absent:
        if request.what not in backbones.names():
            raise UnknownBackbone(f"no block of {request.text!r} is here; `python -m bench weights list` shows what is")
        console.print(f"{request.text}: no block is here; `python -m bench weights fetch {request.text}` gets it")
    for finding in found:
        state = f"good, sha256 {finding.block.sha256[:12]}" if finding.block else finding.problem
        console.print(f"{finding.backbone}, layer {finding.layer}: {state}", highlight=False, markup=False)
    console.print(f"{sum(f.block is not None for f in found)} of {len(found)} blocks are good", highlight=False)
    return int(bool(absent) or any(finding.block is None for finding in found))


def _is_asked(finding: weights.Finding, asked: list[Request]) -> bool:
    """Whether a block is among those named: any layer of a backbone where no layer was."""
    return any(finding.backbone == r.what and (not r.layers or finding.layer in r.layers or r.own) for r in asked)
