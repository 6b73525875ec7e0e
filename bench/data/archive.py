"""Unpack a task's archive so that nothing it holds can reach beyond its folder, its size or the disk.

An archive is looked through before a byte of it is written. Links are refused, wherever they lead: the decathlon's
archives hold none, and a chain of harmless links has led out of many an unpacker (CVE-2025-4517).
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from bench.data.disk import require_space, writing
from bench.data.nifti import DataError

#: Called with the bytes that are unpacked and those of all files.
OnBytes = Callable[[int, int], None]
#: What another system leaves in archives beside the files: `._name` and its like.
_LEFTOVERS = (".DS_Store", "__MACOSX")
_NAMED = 3


def unpack(archive: Path, task: str, folder: Path, on_bytes: OnBytes | None = None) -> None:
    """Write what lies in `task/` of a plain tar archive to `folder`, which is made. DataError if it cannot be trusted.

    Left out: leftovers of macOS, and what lies beside the task's folder. Refused as a whole: an archive with an
    absolute path, a path or link that leads out, a link at all, a device; one that says it holds more than its own
    size (it is not compressed, so only a lie or a hole can be larger); one that the disk has no room for.
    """
    with _opened(archive) as tar:
        found = list(tar)
        _refuse(archive, found)
        members = [member for member in map(lambda m: _inside(m, task), found) if member]
        total = sum(member.size for member in members)
        if (size := archive.stat().st_size) < (claimed := sum(member.size for member in found)):
            raise DataError(
                f"{archive}: refused, nothing was unpacked: {size} bytes claim to hold {claimed}, which is a tar bomb; "
                "get the archive from another place"
            )
        if not any(member.name == "dataset.json" for member in members):
            raise DataError(f"{archive}: holds no {task}/dataset.json; it is not the archive of this task")
        require_space([(folder.parent, total)])
        with writing(folder):
            folder.mkdir(parents=True)
            done = 0
            for member in members:
                tar.extract(member, folder, filter="data")
                done += member.size
                if on_bytes:
                    on_bytes(done, total)


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:") as tar:
            yield tar
    except tarfile.TarError as error:
        raise DataError(f"{archive}: damaged, or no plain tar archive ({error}); delete it and get it again") from error


def _refuse(archive: Path, members: list[tarfile.TarInfo]) -> None:
    """DataError that names what may not be in an archive."""
    reasons = [f"{member.name!r} {reason}" for member in members if (reason := _reason(member))]
    if reasons:
        more = f" and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        listed = ", ".join(reasons[:_NAMED]) + more
        raise DataError(f"{archive}: refused, nothing was unpacked: {listed}; get the archive from another place")


def _reason(member: tarfile.TarInfo) -> str:
    """Why a member is refused; empty if it is not."""
    path = PurePosixPath(member.name)
    if path.is_absolute():
        return "is an absolute path"
    if ".." in path.parts:
        return "leads out of the folder"
    if member.issym() or member.islnk():
        return f"is a link (to {member.linkname!r})"
    if member.size < 0:
        return "has a size below 0"
    return "" if member.isreg() or member.isdir() else "is neither a file nor a folder"


def _inside(member: tarfile.TarInfo, task: str) -> tarfile.TarInfo | None:
    """The member with its path in the task's folder; None if it is not unpacked."""
    top, *rest = PurePosixPath(member.name).parts or ("",)
    junk = any(part.startswith("._") or part in _LEFTOVERS for part in rest)
    return member.replace(name="/".join(rest), deep=False) if top == task and rest and not junk else None
