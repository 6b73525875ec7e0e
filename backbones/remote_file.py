"""A file on the hub as a source of bytes: parts of it by ranges, or, where a server cannot do that, the whole of it.

Bytes that come by ranges cannot be compared with the hash that the hub announces, which is that of a whole file.
What is checked: the range and the size of every answer, the header against the size, the shapes against the row, and
that all is of one commit. A file that is downloaded whole is compared with its hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from backbones import ranges
from backbones.byte_source import LocalFile
from backbones.errors import WeightsError
from backbones.hub_client import Found, NoRanges
from backbones.ranges import Patience

if TYPE_CHECKING:
    from backbones.hub import Repository

SHA256 = re.compile(r"[0-9a-f]{64}")


class RemoteFile:
    """A file of a repository. What is taken from it comes over a file in the repository's folder of parts."""

    def __init__(self, repository: Repository, name: str) -> None:
        self.repository, self.name = repository, name
        self.found = repository.look_up(name)
        self.size = self.found.size
        self.local: LocalFile | None = None

    def current(self) -> Found:
        """Where the file can be had."""
        return self.found

    def renew(self) -> None:
        """Ask the hub for an address again; WeightsError if the file is another one by now."""
        found = self.repository.look_up(self.name)
        if (found.size, found.tag) != (self.found.size, self.found.tag):
            raise WeightsError(f"{self.repository.where}: {self.name} changed while it was read; try again")
        self.found = found

    def expect(self, size: int) -> None:
        """For the progress: so much is going to be taken."""
        if self.local is None:
            self.repository.meter.expect(size)

    def take(self, start: int, size: int) -> memoryview:
        """Exactly these bytes, by one request, or more where the connection breaks off."""
        if start + size > self.size:
            raise WeightsError(f"{self.repository.where}/{self.name}: ends too early; is the repository complete?")
        if self.local is None:
            path = self._part(f"{start}-{start + size}")
            try:
                self._patiently(lambda wait: ranges.fetch(self, path, start, start + size, wait, self.repository.meter))
                with closing(LocalFile(path)) as part:
                    return part.take(0, size)
            except NoRanges:
                self.repository.say(
                    f"{self.repository.where}: the server sends no byte ranges; downloading all of {self.name} "
                    f"({self.size / 1e6:.0f} MB)"
                )
                self.repository.meter.expect(self.size)
                self.local = LocalFile(self.download())
        return self.local.take(start, size)

    def download(self) -> Path:
        """The whole file, compared with the hash that the hub announces; WeightsError if it is another one."""
        path = self._part("whole")
        self._patiently(lambda wait: ranges.fetch_whole(self, path, wait, self.repository.meter))
        if SHA256.fullmatch(self.found.tag):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != self.found.tag:
                path.unlink()
                raise WeightsError(
                    f"{self.repository.where}/{self.name}: has sha256 {digest[:12]}, but the hub announces "
                    f"{self.found.tag[:12]}; damaged on its way: try again, or another mirror (HF_ENDPOINT)"
                )
        return path

    def close(self) -> None:
        """The parts stay, until the block is made of them."""
        if self.local is not None:
            self.local.close()

    def _part(self, which: str) -> Path:
        """Where a part lies. Its name holds all that it depends on: a part of another commit is another file."""
        key = " ".join((self.repository.where, self.found.commit, self.found.tag, self.name, which))
        self.repository.parts.mkdir(parents=True, exist_ok=True)
        path = self.repository.parts / hashlib.sha256(key.encode()).hexdigest()[:32]
        path.touch()
        return path

    def _patiently(self, action: Callable[[Patience], None]) -> None:
        with self.repository.errors_in_words():
            action(Patience(f"{self.repository.where}/{self.name}", self.repository.say))
