"""A checkpoint on the Hugging Face hub, read by byte ranges. HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from backbones.errors import WeightsError, WeightsMissing
from backbones.safetensors_file import Seekable

TIMEOUT = 60.0


def endpoint() -> str:
    """The hub's address."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


class RemoteFile:
    """An open file on a server: each read is one request for just these bytes."""

    def __init__(self, repository: Repository, url: str, size: int, headers: dict[str, str]) -> None:
        self.repository, self.url, self.size, self.headers = repository, url, size, headers
        self.place = 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.place = {0: 0, 1: self.place, 2: self.size}[whence] + offset
        return self.place

    def read(self, size: int = -1, /) -> bytes:
        """Bytes from here on; fewer than asked for at the end of the file."""
        from huggingface_hub.utils import get_session, hf_raise_for_status

        end = self.size if size < 0 else min(self.size, self.place + size)
        if end <= self.place:
            return b""
        headers = self.headers | {"Range": f"bytes={self.place}-{end - 1}", "Accept-Encoding": "identity"}
        with self.repository.errors_in_words():
            response = get_session().get(self.url, headers=headers, follow_redirects=True, timeout=TIMEOUT)
            hf_raise_for_status(response)
        if response.status_code != 206 and (self.place, end) != (0, self.size):
            raise WeightsError(
                f"{self.repository.where}: the server sends no byte ranges; download the checkpoint and give its path"
            )
        self.place = end
        return response.content

    def close(self) -> None:
        """Nothing is held open between two reads."""


class Repository:
    """One repository at one revision; `commit` is what the revision stood for when the first file was opened."""

    def __init__(self, repo: str, revision: str, backbone: str) -> None:
        self.repo, self.revision, self.backbone = repo, revision, backbone
        self.where = f"{endpoint()}/{repo}"
        self.commit = ""

    def open(self, name: str) -> Seekable:
        """Open a file; FileNotFoundError if the repository does not have it, WeightsError if it may not be read."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import get_hf_file_metadata
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.repo, name, revision=self.commit or self.revision, endpoint=endpoint())
        with self.errors_in_words():
            found = get_hf_file_metadata(url, endpoint=endpoint())
        if found.size is None:
            raise WeightsError(f"{self.where}: the server does not tell the size of {name}{self._advice}")
        self.commit = self.commit or found.commit_hash or ""
        # The token is for the hub alone: large files often lie on another server.
        same = urlsplit(found.location).netloc == urlsplit(endpoint()).netloc
        return RemoteFile(self, found.location, found.size, build_hf_headers(token=None if same else False))

    @property
    def _advice(self) -> str:
        return f"; what works as well: --weights {self.backbone}=PATH, a checkpoint folder or a .gguf file"

    @contextmanager
    def errors_in_words(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RemoteEntryNotFoundError

        try:
            yield
        except RemoteEntryNotFoundError as error:
            raise FileNotFoundError(f"{self.where}: no such file") from error
        except HfHubHTTPError as error:
            raise self._refused(error.response.status_code) from error
        except Exception as error:
            # The hub's client has errors of its own for a broken line, under one module name or another.
            if isinstance(error, OfflineModeIsEnabled | OSError) or type(error).__module__.startswith("httpx"):
                raise WeightsMissing(f"{self.where}: cannot be reached ({error}){self._advice}") from error
            raise

    def _refused(self, status: int) -> WeightsError:
        if status in (401, 403):
            return WeightsError(
                f"{self.where}: refused ({status}). If the name is right, accept the licence at "
                f"https://huggingface.co/{self.repo} and set HF_TOKEN to a token of that account{self._advice}"
            )
        if status == 404:
            return WeightsMissing(
                f"{self.where}: no such repository, or no revision {self.revision!r} of it (404){self._advice}"
            )
        return WeightsError(f"{self.where}: the server answered {status}; try again later{self._advice}")
