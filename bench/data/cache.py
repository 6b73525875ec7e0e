"""The cache folder, and the one way anything is put into it: behind a lock, under another name, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from backbones.weights import cache_dir
from bench.data.nifti import DataError

__all__ = ["cache_dir", "write_once"]


def write_once(target: Path, write: Callable[[Path], None], what: str = "") -> Path:
    """Make `target`, a file or a folder, unless it is there; return it.

    `write` gets the path to fill; what names its content in errors. Writers in other threads and processes wait for
    the first one, and a target is either complete or absent: what an interrupted writer left is removed by the next
    one. DataError if it cannot be written.
    """
    if target.exists():
        return target
    try:
        _write_locked(target, write)
    except OSError as error:
        raise DataError(_unwritten(target, what, error)) from error
    return target


def _write_locked(target: Path, write: Callable[[Path], None]) -> None:
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


def _unwritten(target: Path, what: str, error: OSError) -> str:
    """NumPy says only how much it could not write: without a number an error is taken for a full disk."""
    reason, advice = error.strerror or str(error), "give a folder that you may write to"
    if error.errno in (None, errno.ENOSPC, errno.EDQUOT):
        folder = next(parent for parent in target.parents if parent.exists())
        reason += f"; {shutil.disk_usage(folder).free / 1e6:.0f} MB free"
        advice = "make room there, or give a folder on a larger disk"
    if target.is_relative_to(cache_dir()):
        advice += " with the variable BENCH_CACHE"
    return f"{what or target.name}: cannot be written to {target.parent} ({reason}); {advice}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
