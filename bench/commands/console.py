"""Where the commands print."""

from __future__ import annotations

from typing import Any

#: Columns of a table that no terminal limits.
WIDE = 200


def console() -> Any:
    """For a person, as wide as the terminal; through a pipe, wide enough to keep each row on one line."""
    from rich.console import Console

    terminal = Console(soft_wrap=True)
    return terminal if terminal.is_terminal else Console(width=WIDE, soft_wrap=True)
