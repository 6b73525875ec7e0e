"""A range of a remote file into a file here, with patience: broken off, it goes on from where it was.

What has come lies on the disk at every moment, so that a process that is killed loses nothing but its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from backbones.hub_client import Found, NoRanges, Passing, Refused, stream

#: Failed tries in a row before we give up, and the first pause between two; each pause is twice the one before.
TRIES = 5
PAUSE = 0.5
#: A server that asks for a longer pause than this is not waited for.
LONGEST = 120.0

Say = Callable[[str], None]
#: Called with the bytes that are here and those that are needed.
OnBytes = Callable[[int, int], None]


class Meter:
    """Bytes that have come of those that are expected; nothing is told while nothing is expected."""

    def __init__(self, on_bytes: OnBytes | None = None) -> None:
        self.on_bytes, self.done, self.total = on_bytes, 0, 0

    def expect(self, size: int) -> None:
        """So much more is going to be fetched."""
        self.total += size
        self.came(0)

    def came(self, size: int) -> None:
        """So much is here; a negative size takes it back."""
        if self.total:
            self.done += size
            if self.on_bytes:
                self.on_bytes(self.done, self.total)


class Patience:
    """Counts the failures in a row, and waits longer after each."""

    def __init__(self, where: str, say: Say) -> None:
        self.where, self.say, self.failures, self.furthest = where, say, 0, 0

    def reached(self, place: int) -> None:
        """Bytes that no try before has seen: what failed before does not count."""
        if place > self.furthest:
            self.furthest, self.failures = place, 0

    def wait(self, problem: Passing) -> None:
        """Sleep before the next try; raises the problem when there were enough of them."""
        self.failures += 1
        pause = PAUSE * 2 ** (self.failures - 1) if problem.pause is None else problem.pause
        if self.failures >= TRIES or pause > LONGEST:
            raise problem
        self.say(f"{self.where}: {problem}; try {self.failures + 1} of {TRIES} in {pause:.1f} s")
        time.sleep(pause)


class Address(Protocol):
    """Where a file can be had. It may be signed, and then it works for a while only."""

    def current(self) -> Found: ...

    def renew(self) -> None: ...


def size_of(path: Path) -> int:
    """Bytes that are there already."""
    return path.stat().st_size if path.exists() else 0


def fetch(address: Address, path: Path, start: int, end: int, patience: Patience, meter: Meter) -> None:
    """Append to the file at path until it holds the bytes from start to end.

    Errors: those of hub_client.stream; Passing when patience has ended.
    """
    have = size_of(path)
    meter.came(have)
    while have < end - start:
        try:
            with path.open("ab", buffering=0) as file:
                for piece in stream(address.current(), start + have, end):
                    file.write(piece)
                    have += len(piece)
                    meter.came(len(piece))
                    patience.reached(have)
            if have < end - start:
                raise Passing(f"broke off after {have} of {end - start} bytes")
        except Passing as problem:
            patience.wait(problem)
        except Refused as refused:
            if not address.current().elsewhere:
                raise
            address.renew()
            patience.wait(Passing(f"{refused}, perhaps as the signed address has expired", pause=0.0))


def fetch_whole(address: Address, path: Path, patience: Patience, meter: Meter) -> None:
    """A whole file; a server that cannot send the rest of it sends it from its beginning again."""
    size = address.current().size
    while size_of(path) < size:
        try:
            fetch(address, path, 0, size, patience, meter)
        except NoRanges:
            meter.came(-size_of(path))
            path.unlink()
