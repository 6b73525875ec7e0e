"""`bench weights`: fetch, list and verify blocks."""

from __future__ import annotations

import sys

import click

from bench.commands.asked import go_offline
from bench.commands.console import console


@click.group()
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

    fetch_blocks(names, source, console())


@weights.command("list", epilog="\b\nExample:\n  python -m bench weights list\n")
def weights_list() -> None:
    """The blocks that are here, whole or damaged, by their headers alone."""
    from bench.blocks import show_blocks

    show_blocks(console())


@weights.command("verify", epilog="\b\nExample:\n  python -m bench weights verify smollm2\n")
@click.argument("names", nargs=-1)
def weights_verify(names: tuple[str, ...]) -> None:
    """Read the blocks of these backbones, or all that are here, and compare each with its hash."""
    from bench.blocks import verify_blocks

    sys.exit(verify_blocks(names, console()))
