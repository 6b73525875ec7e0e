"""`bench doctor`: what this machine has, and what is missing to run a study on it."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

import backbones
from bench import provenance
from bench.listing import presence

_HUB_SECONDS = 3


def examine(data: Path | None, console: Console) -> int:
    """Print a table of findings; 1 if something that every study needs is missing."""
    rows = [*_software(), *_machine(), *_data(data), _weights(), _hub()]
    table = Table("what", "found")
    for what, found, good in rows:
        table.add_row(what, found if good else f"[red]{found}[/red]")
    console.print(table)
    return int(not all(good for *_, good in rows))


def _software() -> list[tuple[str, str, bool]]:
    known = provenance.code_and_machine()
    rows = [("python", known["python"], True), ("commit", f"{known['commit'] or 'unknown'}", True)]
    return rows + [(name, version, version != "not installed") for name, version in known["versions"].items()]


def _machine() -> list[tuple[str, str, bool]]:
    import torch

    memory = psutil.virtual_memory()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        ("cores", str(os.cpu_count()), True),
        ("memory", f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free", True),
        ("GPUs", ", ".join(gpus) or "none: trials run on the CPU", True),
        ("disk", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free in the current folder", True),
    ]


def _data(data: Path | None) -> list[tuple[str, str, bool]]:
    from bench.data.folder import DataError, task_names
    from bench.data.phantom import phantom_root

    root = phantom_root()
    rows = [("phantom data", f"{root}{'' if root.exists() else ' (made by the first run)'}", True)]
    if data is not None:
        try:
            rows.append((f"data {data}", ", ".join(task_names(data)), True))
        except DataError as error:
            rows.append((f"data {data}", str(error), False))
    return rows


def _weights() -> tuple[str, str, bool]:
    found = {name: presence(backbones.get(name)) for name in backbones.names()}
    told = [name if state == "yes" else f"{name} ({state})" for name, state in found.items() if state != "no"]
    good = "damaged" not in found.values()
    return "blocks here", ", ".join(told) or "none: `python -m bench weights fetch NAME`", good


def _hub() -> tuple[str, str, bool]:
    """A hub that cannot be reached is no fault: packages and local checkpoints work without it."""
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    token = "token set" if os.environ.get("HF_TOKEN") else "no HF_TOKEN set"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_HUB_SECONDS):
            return "hub", f"{address} answers; {token}", True
    except urllib.error.HTTPError as error:
        return "hub", f"{address} answers with {error.code}; {token}", True
    except (OSError, ValueError) as error:
        return "hub", f"{address} cannot be reached ({error}); {token}", True
