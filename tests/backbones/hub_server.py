"""A hub on 127.0.0.1 that speaks the hub's own routes, and goes wrong on request.

    with HubServer(folder, "owner/name") as hub:
        os.environ["HF_ENDPOINT"] = hub.url

Large files lie on a second port, behind signed addresses, as they do at the real hub. Routes: HEAD and GET of
/{repo}/resolve/{revision}/{file}, GET of /api/models/{repo}/revision/{revision} and .../tree/{commit}.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + 34 * "0"
CHUNK = 1 << 16


@dataclass
class Faults:
    """What goes wrong. Counts go down by one each time; -1 is for ever.

    statuses: answers (status, headers) given first, by either server. drops: contents cut off half way. stalls:
    contents that stop half way for `stall` seconds. above: drops and stalls are for contents of more bytes alone.
    expired: signed addresses that are refused. ranges: whether ranges are honoured. shifted: they are answered one
    byte off. tag: a sha256 announced instead of the true one. token: what must be sent to the hub, as the repository
    is gated. moves: each answer is of another commit.
    """

    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    drops: int = 0
    stalls: int = 0
    stall: float = 1.0
    above: int = 0
    expired: int = 0
    ranges: bool = True
    shifted: bool = False
    tag: str = ""
    token: str = ""
    moves: bool = False

    def due(self, name: str) -> bool:
        """Whether this fault happens now."""
        left = getattr(self, name)
        setattr(self, name, left - 1 if left > 0 else left)
        return left != 0


@dataclass(frozen=True)
class Request:
    """One request as it came: to `hub` or `storage`."""

    server: str
    method: str
    path: str
    range: str | None
    token: str | None


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """The hash of a file, computed again only when the file has changed."""
    return _sha256(path, path.stat().st_size, path.stat().st_mtime_ns)


class HubServer:
    """Serves one folder as one repository. sent counts bytes of contents, requests keeps what was asked."""

    def __init__(self, folder: Path, repo: str, large: tuple[str, ...] = (".safetensors", ".bin", ".gguf")) -> None:
        self.folder, self.repo, self.large = folder, repo, large
        self.commit, self.faults = COMMIT, Faults()
        self.sent = 0
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.servers = {
            name: ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, name)) for name in ("hub", "storage")
        }
        self.threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            for server in self.servers.values()
        ]

    @property
    def url(self) -> str:
        """The address for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.servers['hub'].server_port}"

    @property
    def storage_url(self) -> str:
        """The address of the second server."""
        return f"http://127.0.0.1:{self.servers['storage'].server_port}"

    def files(self) -> dict[str, Path]:
        """The repository's files by name."""
        return {str(path.relative_to(self.folder)): path for path in sorted(self.folder.rglob("*")) if path.is_file()}

    def __enter__(self) -> HubServer:
        for name, path in self.files().items():  # so that no request waits for a hash
            if name.endswith(self.large):
                sha256_of(path)
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server, thread in zip(self.servers.values(), self.threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    """What both servers do: count, refuse, send."""

    hub: HubServer
    name: str

    def do_HEAD(self) -> None:
        self.handle_request()

    def do_GET(self) -> None:
        self.handle_request()

    def handle_request(self) -> None:
        token = self.headers.get("Authorization")
        with self.hub.lock:
            self.hub.requests.append(Request(self.name, self.command, self.path, self.headers.get("Range"), token))
            failure = self.hub.faults.statuses.pop(0) if self.hub.faults.statuses else None
        if failure:
            return self.answer(failure[0], b"", failure[1])
        try:
            return self.route(unquote(urlsplit(self.path).path))
        except ConnectionError:
            self.close_connection = True  # the client hung up, as it may
            return None

    def route(self, path: str) -> None:
        raise NotImplementedError

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.pour(body)

    def pour(self, data: bytes) -> None:
        self.wfile.write(data)
        with self.hub.lock:
            self.hub.sent += len(data)

    def answer_file(self, path: Path, headers: dict[str, str]) -> None:
        """The file, or the range of it that was asked for, with the faults that are due."""
        size, faults = path.stat().st_size, self.hub.faults
        start, end, status = 0, size, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and faults.ranges:
            start, end, status = int(asked[1]), min(int(asked[2]) + 1, size), 206
            if start >= size:
                return self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            start += faults.shifted
            headers = headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(end - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.pour_file(path, start, end)
        return None

    def pour_file(self, path: Path, start: int, end: int) -> None:
        with self.hub.lock:
            exposed = end - start > self.hub.faults.above
            drop, stall = (exposed and self.hub.faults.due(name) for name in ("drops", "stalls"))
        half = start + (end - start) // 2
        with path.open("rb") as file:
            file.seek(start)
            while (left := (half if drop or stall else end) - file.tell()) > 0:
                self.pour(file.read(min(CHUNK, left)))
            if stall:
                time.sleep(self.hub.faults.stall)

    def log_message(self, *args: object) -> None:
        """Requests are kept, not printed."""


class HubHandler(Handler):
    """The hub: the API, small files, and addresses of large ones."""

    def route(self, path: str) -> None:
        token = self.headers.get("Authorization")
        if self.hub.faults.token and token != f"Bearer {self.hub.faults.token}":
            return self.answer(401 if token is None else 403, b"", {"X-Error-Code": "GatedRepo"})
        match = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)/(resolve|revision|tree)/([^/]+)(?:/(.*))?", path)
        if not match or match[1] != self.hub.repo:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if match[3] not in ("main", self.hub.commit) and not self.hub.faults.moves:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if match[2] == "resolve":
            return self.resolve(match[4] or "")
        body = self.tree() if match[2] == "tree" else self.revision()
        return self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def resolve(self, name: str) -> None:
        headers = {"X-Repo-Commit": f"{len(self.hub.requests):040x}" if self.hub.faults.moves else self.hub.commit}
        path = self.hub.files().get(name)
        if path is None:
            return self.answer(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        if not name.endswith(self.hub.large):
            return self.answer_file(path, headers | {"ETag": f'"{_blob_id(path)}"'})
        address = f"{self.hub.storage_url}/{name}?signature={len(self.hub.requests)}"
        tag = self.hub.faults.tag or sha256_of(path)
        linked = {"X-Linked-Size": str(path.stat().st_size), "X-Linked-Etag": f'"{tag}"', "Location": address}
        return self.answer(302, b"", headers | linked)

    def revision(self) -> dict[str, Any]:
        files = [{"rfilename": name} for name in self.hub.files()]
        return {"id": self.hub.repo, "modelId": self.hub.repo, "sha": self.hub.commit, "siblings": files}

    def tree(self) -> list[dict[str, Any]]:
        return [_tree_entry(name, path, name.endswith(self.hub.large)) for name, path in self.hub.files().items()]


class StorageHandler(Handler):
    """The server that keeps large files; it knows signatures and no token."""

    def route(self, path: str) -> None:
        file = self.hub.files().get(path.lstrip("/"))
        signed = "signature" in parse_qs(urlsplit(self.path).query)
        if file is None or not signed or self.hub.faults.due("expired"):
            return self.answer(403, b"", {})
        return self.answer_file(file, {"ETag": f'"{sha256_of(file)}"'})


def _blob_id(path: Path) -> str:
    """The name that git gives to a content."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _tree_entry(name: str, path: Path, large: bool) -> dict[str, Any]:
    size = path.stat().st_size
    entry: dict[str, Any] = {"type": "file", "path": name, "size": size}
    if not large:
        return entry | {"oid": _blob_id(path)}
    digest = sha256_of(path)
    return entry | {"oid": digest[:40], "lfs": {"oid": digest, "size": size, "pointerSize": 134}}


def _handler(hub: HubServer, name: str) -> type[Handler]:
    base = HubHandler if name == "hub" else StorageHandler
    return type(base.__name__, (base,), {"hub": hub, "name": name})
