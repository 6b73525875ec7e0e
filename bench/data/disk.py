"""Room on the disk, asked for before it is used."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.data.nifti import DataError

#: Left free beside what is asked for: a disk without any room stops more than our own work.
_SPARE = 50_000_000


def require_space(needs: Iterable[tuple[Path, int]]) -> None:
    """DataError unless each disk has room for the bytes that are going to be written to folders on it."""
    wanted: dict[int, tuple[Path, int]] = {}
    for folder, size in needs:
        place = existing(folder)
        first, before = wanted.get(place.stat().st_dev, (folder, 0))
        wanted[place.stat().st_dev] = first, before + size
    for folder, size in wanted.values():
        free = shutil.disk_usage(existing(folder)).free
        if size and size + _SPARE > free:
            raise DataError(
                f"{folder}: needs {gigabytes(size)} for archives and images, but its disk has {gigabytes(free)} free; "
                "make room, name fewer tasks, or give another folder (BENCH_CACHE is where archives go)"
            )


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there already."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def gigabytes(size: int) -> str:
    """`27 MB`, `1.5 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """A disk that is full, or a folder that may not be written, in words: DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{where}: the disk is full; make room and run the same command again") from error
        what = os.strerror(error.errno) if error.errno else str(error)
        raise DataError(f"{where}: cannot be written ({what}); give a folder that you may write to") from error
