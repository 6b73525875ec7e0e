"""The archives of the Medical Segmentation Decathlon: where they lie, and a download that goes on where it broke off.

Addresses and checksums are those of MONAI's DecathlonDataset, read from it when they are needed. The download is the
one that weights come by (`backbones/ranges.py`): it asks for what is missing, waits and tries again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from backbones import ranges
from backbones.errors import WeightsError
from backbones.hub import offline
from backbones.hub_client import Found, Passing, Refused, look_up_elsewhere
from bench.data.cache import cache_dir
from bench.data.disk import writing
from bench.data.nifti import DataError

CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022), "
    "https://doi.org/10.1038/s41467-022-30695-9"
)
_PIECE = 1 << 20

Say = Callable[[str], None]


class Bar(Protocol):
    """Told of the bytes that are done and those of the whole."""

    def update(self, done: int, total: int) -> None: ...


#: Makes the bar for a stage of the work, which it names.
Watch = Callable[[str], AbstractContextManager[Bar]]


@dataclass(frozen=True)
class Archive:
    """A task's archive: its address, or its path where `local`, and the MD5 that it must have."""

    task: str
    address: str
    md5: str
    local: bool = False

    @property
    def kept(self) -> Path:
        """Where it lies once it is here."""
        return Path(self.address) if self.local else cache_dir() / "downloads" / f"{self.task}.tar"

    @property
    def partial(self) -> Path:
        """Where what has come so far lies."""
        return self.kept.with_name(f"{self.kept.name}.partial")


def archives(tasks: Sequence[str], source: str = "") -> list[Archive]:
    """The archives of tasks as MONAI has them; source is a mirror's address or a folder with NAME.tar instead."""
    from monai.apps.datasets import DecathlonDataset

    local = bool(source) and "://" not in source
    if local and not Path(source).is_dir():
        raise DataError(f"--from {source}: no such folder; give a folder that holds NAME.tar, or an http(s) address")
    if source and not local and not source.startswith(("http://", "https://")):
        raise DataError(f"--from {source}: only http and https are understood; give such an address, or a folder")
    found = []
    for task in tasks:
        address = f"{source.rstrip('/')}/{task}.tar" if source else DecathlonDataset.resource[task]
        found.append(Archive(task, address, DecathlonDataset.md5[task], local))
    return found


def size_of(archive: Archive, say: Say) -> tuple[int, int]:
    """(bytes of the whole archive, bytes that are still to come). DataError if it cannot be had."""
    if archive.kept.is_file():
        return archive.kept.stat().st_size, 0
    if archive.local:
        raise DataError(f"{archive.kept}: file is missing; put the archive of {archive.task} there")
    with _in_words(archive):
        size = _Address(archive, say).current().size
    return size, max(0, size - ranges.size_of(archive.partial))


def fetch(archive: Archive, say: Say, watch: Watch) -> Path:
    """The archive on this machine, its checksum verified; to be called while `holding` it."""
    if archive.local or archive.kept.is_file():
        return _verified(archive, archive.kept, watch)
    resumed = ranges.size_of(archive.partial)
    if resumed:
        say(f"{archive.task}: going on after {resumed / 1e6:.0f} MB")
    _download(archive, say, watch)
    try:
        _verified(archive, archive.partial, watch)
    except DataError as error:
        if not resumed:
            raise
        say(f"{error}; what was kept belongs to another file, starting again")
        _download(archive, say, watch)
        _verified(archive, archive.partial, watch)
    os.replace(archive.partial, archive.kept)
    return archive.kept


@contextmanager
def holding(archive: Archive) -> Iterator[None]:
    """Processes that want the same archive take turns, from the first byte of it to its removal."""
    if archive.local:
        yield
        return
    with writing(archive.kept.parent):
        archive.kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(archive.kept.with_name(f".{archive.kept.name}.lock")):
        yield


def _download(archive: Archive, say: Say, watch: Watch) -> None:
    with _in_words(archive), watch("downloading") as bar:
        address = _Address(archive, say)
        meter = ranges.Meter(bar.update)
        meter.expect(address.current().size)
        try:
            ranges.fetch_whole(address, archive.partial, address.patience, meter)
        except KeyboardInterrupt:
            say(f"{archive.task}: what has come is kept, the same command goes on from there")
            raise


def _verified(archive: Archive, path: Path, watch: Watch) -> Path:
    """The path; DataError if its content is not the one, and then a download of ours is removed."""
    digest, size, done = hashlib.md5(usedforsecurity=False), path.stat().st_size, 0
    with path.open("rb") as file, watch("verifying") as bar:
        while piece := file.read(_PIECE):
            digest.update(piece)
            done += len(piece)
            bar.update(done, size)
    if digest.hexdigest() == archive.md5:
        return path
    if not archive.local:
        path.unlink()
    what = "give the true archive" if archive.local else "it was removed: try again, or another --from"
    raise DataError(
        f"{archive.address}: wrong checksum: MD5 is {digest.hexdigest()}, expected {archive.md5} ({size} bytes); {what}"
    )


class _Address:
    """What `ranges` asks for a file: looked up at the first question, and again when it is told to."""

    def __init__(self, archive: Archive, say: Say) -> None:
        self.archive, self.found = archive, None
        self.patience = ranges.Patience(archive.address, say)

    found: Found | None

    def current(self) -> Found:
        while self.found is None:
            try:
                self.found = look_up_elsewhere(self.archive.address)
            except FileNotFoundError as error:
                raise Refused(404) from error
            except Passing as problem:
                self.patience.wait(problem)
        return self.found

    def renew(self) -> None:
        self.found = None


@contextmanager
def _in_words(archive: Archive) -> Iterator[None]:
    """What can go wrong on the way, as DataError that says what would work."""
    other = f"another way is --from with a mirror's address or a folder that holds {archive.task}.tar"
    if offline():
        raise DataError(f"{archive.address}: not asked, as HF_HUB_OFFLINE is set; {other}")
    try:
        with writing(archive.partial):
            yield
    except Passing as problem:
        raise DataError(
            f"{archive.address}: {problem}; what has come is kept, the same command goes on from there; {other}"
        ) from problem
    except Refused as refused:
        raise DataError(f"{archive.address}: {refused}; check the address; {other}") from refused
    except WeightsError as error:
        raise DataError(str(error)) from error
