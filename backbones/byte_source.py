"""An open file as the readers of checkpoints want it: bytes by place, here or on a server. Standard library first."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Protocol

from backbones.errors import WeightsError

#: Up to here a bytearray will do. It sets its memory to zero first, which costs as much as reading.
SMALL = 1 << 20


class ByteSource(Protocol):
    """size is the file's, in bytes. expect tells how much will be taken, for whoever shows progress."""

    size: int

    def take(self, start: int, size: int) -> memoryview: ...

    def expect(self, size: int) -> None: ...

    def close(self) -> None: ...


def _buffer(size: int) -> memoryview:
    if size <= SMALL:
        return memoryview(bytearray(size))
    import numpy as np

    return np.empty(size, dtype=np.uint8).data


class LocalFile:
    """A file on this machine; each part that is taken is one writable buffer, filled once."""

    def __init__(self, path: Path) -> None:
        self.name, self.size = str(path), path.stat().st_size
        self.file = path.open("rb", buffering=0)

    def check(self, end: int) -> None:
        """WeightsError if the file ends before."""
        if end > self.size:
            raise WeightsError(
                f"{self.name}: ends too early ({end} bytes needed, {self.size} there); get the file again"
            )

    def take(self, start: int, size: int) -> memoryview:
        """Exactly these bytes; WeightsError if the file ends before."""
        self.check(start + size)
        buffer = _buffer(size)
        self.file.seek(start)
        filled = 0
        while filled < size and (count := self.file.readinto(buffer[filled:])):
            filled += count
        if filled < size:
            raise WeightsError(f"{self.name}: became shorter while it was read; get the file again")
        return buffer

    def expect(self, size: int) -> None:
        """Nothing to show: the disk is fast."""

    def close(self) -> None:
        """Close the file; what was taken stays."""
        self.file.close()


class MappedFile(LocalFile):
    """A file that is mapped instead of read: what is never looked at costs nothing, and nothing is copied.

    For files of others, which live as long as they like: who keeps the bytes for long should copy them.
    """

    def take(self, start: int, size: int) -> memoryview:
        """Exactly these bytes, writable, though nothing gets into the file; WeightsError if the file ends before."""
        self.check(start + size)
        if size <= SMALL:
            return super().take(start, size)
        before = start % mmap.ALLOCATIONGRANULARITY
        view = mmap.mmap(self.file.fileno(), before + size, access=mmap.ACCESS_COPY, offset=start - before)
        return memoryview(view)[before:]
