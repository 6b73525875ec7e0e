"""Archives of the decathlon's kind, good and bad, and a server on 127.0.0.1 that goes wrong on request."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.backbones.hub_server import HubHandler, HubServer

TASK = "Task04_Hippocampus"
#: A member of an archive: a header, and what lies behind it.
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
    """One entry of an archive; link is where it points if it is a link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


#: The least that an archive of a task holds.
JSON = member(f"{TASK}/dataset.json", b"{}")


def write_tar(path: Path, members: Iterable[Member], folder: Path | None = None) -> Path:
    """A plain tar of a folder, if one is given, and of these members after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        if folder:
            tar.add(folder, folder.name)
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def write_bomb(path: Path, size: int) -> Path:
    """A good archive, and behind it a sparse file that unpacks to `size` bytes."""
    write_tar(path, [JSON])
    header = bytearray(tarfile.TarInfo(f"{TASK}/imagesTr/a.nii.gz").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"%011o\0" % size  # the size with its holes
    header[148:156] = b"%06o\0 " % sum((*header[:148], *b" " * 8, *header[156:]))
    content = path.read_bytes()
    end = tarfile.BLOCKSIZE * 2  # header and data of dataset.json
    path.write_bytes(content[:end] + bytes(header) + bytes(2 * tarfile.BLOCKSIZE))
    return path


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


class _Files(HubHandler):
    def route(self, path: str) -> None:
        file = self.hub.files().get(path.lstrip("/"))
        return self.answer_file(file, {}) if file else self.answer(404, b"", {})


class ArchiveServer(HubServer):
    """Serves the files of a folder by their names; `faults`, `requests` and `sent` as at the hub of the tests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "", large=())
        self.servers["hub"].RequestHandlerClass = type("Files", (_Files,), {"hub": self, "name": "hub"})

    def ranges(self) -> list[str | None]:
        """The range of each GET, in their order; None where the whole file was asked for."""
        return [request.range for request in self.requests if request.method == "GET"]
