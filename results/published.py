"""Numbers of papers, as published, with their source and protocol. None of them is of our protocol: never one column.

The files are `results/published/*.csv`, one a source. What is not known is empty there and missing in the table;
nothing is read off a figure, converted or guessed.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

#: source, place: what was read, and which page, table or passage of it. protocol: data, split and labels in words.
#: task: an MSD task, or `all` for a mean over the ten. label: empty for a mean over labels. note: in words.
COLUMNS = ("source", "place", "protocol", "system", "task", "label", "metric", "unit", "value", "sd", "note")
_NUMBERS = ("value", "sd")


def load() -> pd.DataFrame:
    """Every published number, with COLUMNS: value and sd are floats, missing where unknown, the rest is text."""
    folder = resources.files("results") / "published"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".csv")), key=lambda file: file.name)
    frames = []
    for file in files:
        with file.open(encoding="utf-8") as opened:
            frames.append(pd.read_csv(opened, dtype="str", keep_default_na=False))
    table = pd.concat(frames, ignore_index=True)[list(COLUMNS)]
    return table.assign(**{name: pd.to_numeric(table[name].replace("", None)) for name in _NUMBERS})
