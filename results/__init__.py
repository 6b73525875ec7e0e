"""What trials left behind: records, their store, and the tables made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.frames import Run


def load(run: str | Path) -> Run:
    """A run folder as tidy pandas frames: `scores`, `trials`, `curves` and `cost` (see `results.frames.Run`).

    Raises `results.store.RecordError` (a ValueError) for a folder without a record, and for a damaged one.
    """
    from results import frames  # pandas is heavy, and most who import `results` want only the records

    return frames.read(Path(run))
