"""The cache folder, and the one way anything is put into it: behind a lock, under another name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from backbones.weights import cache_dir

__all__ = ["cache_dir", "write_once"]


def write_once(target: Path, write: Callable[[Path], None]) -> Path:
    """Make `target`, a file or a folder, unless it is there; return it.

    `write` gets the path to fill. Writers in other threads and processes wait for the first one, and a target is
    either complete or absent: what an interrupted writer left is removed by the next one.
    """
    if target.exists():
        return target
    locks = target.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{target.name}.lock"):
        if not target.exists():
            partial = target.parent / f".{target.name}.partial"
            _remove(partial)
            try:
                write(partial)
                os.replace(partial, target)
            finally:
                _remove(partial)
    return target


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
