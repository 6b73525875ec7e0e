"""What trials left behind: records, their store, and the tables made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(run: str | Path) -> pd.DataFrame:
    """The tidy table of a run folder: a row a complete trial × case × label (see `results.summary.COLUMNS`).

    Raises `results.store.RecordError` (a ValueError) that names the file where a record is damaged.
    """
    from results import store, summary  # pandas is heavy, and most who import `results` want only the records

    return summary.long_table(store.read(Path(run)))
