"""Checkpoints that are no longer needed, and their removal. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from results.store import key_path

FOLDER = "checkpoints"


def discard(run: Path, key: str) -> None:
    """Remove every checkpoint of a trial, and the folders that are empty then."""
    top = Path(run) / FOLDER
    place = key_path(top, key)
    shutil.rmtree(place, ignore_errors=True)
    for folder in (place.parent, place.parent.parent, top):
        try:
            folder.rmdir()
        except OSError:  # other trials have theirs there, or there was none
            return


def sweep(run: Path, digests: Collection[str]) -> None:
    """Remove the checkpoints of trials that have ended: a process may die between its record and their removal."""
    top = Path(run) / FOLDER
    for place in list(top.glob("*/*/*-*-*")):
        if place.name.rpartition("-")[2] in digests:
            discard(run, place.relative_to(top).as_posix())
