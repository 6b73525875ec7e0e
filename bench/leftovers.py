"""What is no longer needed in a run folder, and its removal. No torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from results.store import key_path

FOLDER = "checkpoints"
#: Where a trial's files are written.
_WRITTEN = ("trials", "models", "previews", "volumes", "activations", "live")


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


def sweep_drafts(run: Path) -> None:
    """Remove what processes that were killed had begun to write. The run must be held: nobody writes now."""
    for folder in (*run.glob(".train-*"), *run.glob(".seen-*")):
        shutil.rmtree(folder, ignore_errors=True) if folder.is_dir() else folder.unlink(missing_ok=True)
    for top in _WRITTEN:
        for folder_name, _, names in os.walk(run / top):
            for name in names:
                if name.startswith(".") and name.endswith(".tmp"):
                    Path(folder_name, name).unlink(missing_ok=True)
