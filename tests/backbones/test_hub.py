"""A small hub on 127.0.0.1: one layer by byte ranges, and each way to be refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backbones import weights
from tests.backbones import tiny
from tests.backbones.test_weights import assert_same_output

COMMIT = "c0ffee" + 34 * "0"


class Hub(ThreadingHTTPServer):
    """Serves the files of one folder as `tiny/<name>`; `status` makes it refuse, `sent` counts bytes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.status, self.ranges, self.sent = folder, 200, True, 0
        self.tokens: set[str | None] = set()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        self.server.tokens.add(self.headers.get("Authorization"))
        name = self.path.rsplit("/", 1)[-1]
        if self.server.status != 200:
            return self._send(self.server.status, b"", {})
        if not (self.server.folder / name).is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        data, status = (self.server.folder / name).read_bytes(), 200
        if body and self.server.ranges and (asked := self.headers.get("Range")):
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            data, status = data[first : last + 1], 206
        return self._send(status, data, {"X-Repo-Commit": COMMIT, "ETag": '"x"'}, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body and self.command == "GET":
            self.server.sent += len(data)
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tiny.write_checkpoint(tmp_path / "served", tiny.spec("llama3"))
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_layer_by_ranges_at_one_commit(hub, cache):
    row = tiny.spec("llama3")
    kept = weights.fetch(row)
    assert_same_output(row, kept)
    assert kept.source == f"tiny/llama3@{COMMIT}"
    assert hub.tokens == {"Bearer hf_secret"}
    index = (hub.folder / "model.safetensors.index.json").stat().st_size
    config = (hub.folder / "config.json").stat().st_size
    assert hub.sent <= index + config + sum((hub.folder / f"{part}.safetensors").stat().st_size for part in "bc")


def test_only_the_layers_bytes_are_sent(hub, cache):
    row = tiny.spec("llama3")
    (hub.folder / "model.safetensors.index.json").unlink()
    from safetensors.torch import save_file

    state = tiny.reference_model(row).state_dict()
    save_file(state, hub.folder / "model.safetensors")
    kept = weights.fetch(row, source="tiny/llama3")
    assert_same_output(row, kept)
    assert hub.sent < 0.2 * (hub.folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            401,
            r"refused \(401\).*licence at https://huggingface.co/tiny/llama3.*HF_TOKEN.*--weights llama3=PATH",
        ),
        (403, r"refused \(403\).*HF_TOKEN"),
        (404, r"no such repository.*404.*--weights llama3=PATH"),
        (500, "answered 500"),
    ],
)
def test_refusals(hub, cache, status, words):
    hub.status = status
    with pytest.raises(weights.WeightsError, match=words):
        weights.fetch(tiny.spec("llama3"), source="hub")


def test_server_without_ranges_is_told(hub, cache):
    hub.ranges = False
    with pytest.raises(weights.WeightsError, match="no byte ranges"):
        weights.fetch(tiny.spec("llama3"))


def test_no_network(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(weights.WeightsMissing, match="cannot be reached"):
        weights.fetch(tiny.spec("llama3"))
