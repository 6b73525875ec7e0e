"""Where Tune keeps its notes while it runs: a folder in the temp folder that goes with the process that made it.

Its name tells whose it is, so that the next one on this machine removes what a killed process left. Nothing in it is
ever read: our own records are the truth.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.alive import Owner

_PREFIX = "bench-tune"
_NAME = re.compile(rf"{_PREFIX}-(?P<host>.+)-(?P<pid>\d+)-(?P<born>\d+\.\d+)-\w+")
_made: set[Path] = set()


@contextlib.contextmanager
def storage() -> Iterator[str]:
    """A folder of this process, while the context lasts; those of processes that are gone are removed first."""
    sweep(Path(tempfile.gettempdir()))
    me = Owner.here()
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{me.host}-{me.pid}-{me.born:.2f}-"))
    _made.add(path)
    try:
        yield str(path)
    finally:
        clear()


def clear() -> None:
    """Remove every folder that this process has made; again and again, as a thread of Tune's may still write to one."""
    for path in tuple(_made):
        shutil.rmtree(path, ignore_errors=True)


def sweep(top: Path) -> None:
    """Remove what processes of this user on this host have left that are gone."""
    with contextlib.suppress(OSError):
        for path in list(top.glob(f"{_PREFIX}-*")):
            if _left(path):
                shutil.rmtree(path, ignore_errors=True)


def _left(path: Path) -> bool:
    """Others may write to the temp folder, too: what is not a folder of ours by its name and its owner stays."""
    named = _NAME.fullmatch(path.name)
    if not named or named["host"] != socket.gethostname():
        return False
    with contextlib.suppress(OSError):
        about = path.lstat()
        ours = path.is_dir() and not path.is_symlink() and about.st_uid == os.getuid()
        return ours and bool(Owner(named["host"], int(named["pid"]), float(named["born"])).gone(time.time()))
    return False
