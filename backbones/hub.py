"""A repository on the Hugging Face hub. HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backbones.byte_source import ByteSource
from backbones.errors import Interrupted, WeightsError, WeightsMissing
from backbones.hub_client import Found, Passing, Refused, look_up
from backbones.ranges import Meter, OnBytes, Patience, Say
from backbones.remote_file import RemoteFile

TRUE = ("1", "ON", "YES", "TRUE")


def endpoint() -> str:
    """The hub's address."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def offline() -> bool:
    """Whether no network may be touched, as huggingface_hub and transformers understand it."""
    return any(os.environ.get(name, "").upper() in TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def licence_page(repo: str) -> str:
    """Where the licence of a gated repository is read and accepted."""
    return f"https://huggingface.co/{repo}"


def other_ways(backbone: str) -> str:
    """What works where the hub does not, for the end of a message."""
    return (
        f"--weights {backbone}=PATH of a checkpoint folder or a .gguf file, --weights {backbone}=OWNER/NAME of another "
        "repository, or HF_ENDPOINT with the address of a mirror"
    )


class Repository:
    """One repository at one revision; `commit` is what the revision stood for when the first file was opened.

    parts is the folder for what has come; say is called with lines of text, on_bytes with bytes done and needed.
    """

    def __init__(
        self, repo: str, revision: str, backbone: str, parts: Path, say: Say, on_bytes: OnBytes | None = None
    ) -> None:
        self.repo, self.revision, self.backbone = repo, revision, backbone
        self.where = f"{endpoint()}/{repo}"
        self.commit = ""
        self.parts, self.say, self.meter = parts, say, Meter(on_bytes)

    def text(self, name: str) -> bytes:
        """A small file's content."""
        return RemoteFile(self, name).download().read_bytes()

    def open(self, name: str) -> ByteSource:
        """A file of which parts are taken."""
        return RemoteFile(self, name)

    def whole(self, name: str) -> Path:
        """A file of which all is needed: downloaded."""
        file = RemoteFile(self, name)
        self.say(f"{self.where}: downloading all of {name} ({file.size / 1e6:.0f} MB), as no part of it can be read")
        self.meter.expect(file.size)
        return file.download()

    def look_up(self, name: str) -> Found:
        """Ask for a file; FileNotFoundError if the repository does not have it, WeightsError if it may not be read."""
        from huggingface_hub import hf_hub_url

        if offline():
            raise WeightsMissing(f"{self.where}: not asked, as HF_HUB_OFFLINE is set{self._advice}")
        url = hf_hub_url(self.repo, name, revision=self.commit or self.revision, endpoint=endpoint())
        patience = Patience(self.where, self.say)
        with self.errors_in_words():
            while True:
                try:
                    found = look_up(url, endpoint())
                    break
                except Passing as problem:
                    patience.wait(problem)
        self.commit = self.commit or found.commit
        if found.commit not in ("", self.commit):
            raise WeightsError(f"{self.where}: moved from {self.commit} to {found.commit} while it was read; try again")
        return found

    @contextmanager
    def errors_in_words(self) -> Iterator[None]:
        """Turn what the client says into what helps."""
        try:
            yield
        except Passing as problem:
            pause = f" and asks to wait for {problem.pause:.0f} s" if problem.pause else ""
            raise Interrupted(
                f"{self.where}: {problem}{pause}; try again later, what has come is kept{self._advice}"
            ) from problem
        except Refused as refused:
            raise self._refused(refused.status) from refused

    @property
    def _advice(self) -> str:
        return f"; what works as well: {other_ways(self.backbone)}"

    def _refused(self, status: int) -> WeightsError:
        if status in (401, 403):
            return WeightsError(
                f"{self.where}: refused ({status}). If the name is right, accept the licence at "
                f"{licence_page(self.repo)} and set HF_TOKEN to a token of that account{self._advice}"
            )
        if status == 404:
            return WeightsMissing(
                f"{self.where}: no such repository, or no revision {self.revision!r} of it (404){self._advice}"
            )
        return WeightsError(f"{self.where}: the server answered {status}{self._advice}")
