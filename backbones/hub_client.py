"""One question to the hub, or to the server that it names, and every way it can go, as exceptions of ours.

The client is huggingface_hub's own, so that proxies, certificates and HF_TOKEN work as everywhere. Nothing is tried
twice here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from backbones.errors import WeightsError

#: Seconds without a byte after which a connection counts as broken.
TIMEOUT = 30.0
#: Answers that may be another one in a moment.
PASSING = (408, 425, 429, 500, 502, 503, 504)
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Passing(Exception):
    """It may work in a moment; pause is the time in seconds that the server asks for, if it does."""

    def __init__(self, words: str, pause: float | None = None) -> None:
        super().__init__(words)
        self.pause = pause


class Refused(Exception):
    """The server's final word: a status that another try does not change."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status


class NoRanges(Exception):
    """The server sends whole files only."""


@dataclass(frozen=True)
class Found:
    """A file of a repository: where it can be had, its size in bytes, its tag, and the commit that it belongs to.

    For large files the tag is the sha256 of the content. elsewhere: another server than the hub holds it, which must
    not see the token.
    """

    location: str
    size: int
    tag: str
    commit: str
    elsewhere: bool


def _asked_pause(value: str | None) -> float | None:
    """Retry-After, in seconds or as a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


@contextmanager
def _errors_of_ours() -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RemoteEntryNotFoundError

    try:
        yield
    except RemoteEntryNotFoundError as error:
        raise FileNotFoundError(str(error.response.url)) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in PASSING:
            pause = _asked_pause(error.response.headers.get("Retry-After"))
            raise Passing(f"the server answered {status}", pause) from error
        raise Refused(status) from error
    except OfflineModeIsEnabled:
        raise
    except Exception as error:
        # The client has errors of its own for a broken line, under one module name or another.
        if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
            raise Passing(f"cannot be reached ({error or type(error).__name__})") from error
        raise


def look_up(url: str, hub: str) -> Found:
    """Ask the hub for a file; FileNotFoundError, Refused or Passing. hub is the hub's own address."""
    from huggingface_hub.file_download import get_hf_file_metadata

    with _errors_of_ours():
        found = get_hf_file_metadata(url, endpoint=hub, timeout=TIMEOUT)
    if found.size is None:
        raise WeightsError(f"{url}: the server does not tell the size of the file; is this a hub?")
    # The scheme counts: the token must not go out in the clear because a server says http.
    elsewhere = urlsplit(found.location)[:2] != urlsplit(hub)[:2]
    return Found(found.location, found.size, found.etag or "", found.commit_hash or "", elsewhere)


def look_up_elsewhere(url: str) -> Found:
    """Ask any other server for a file; the token stays here. FileNotFoundError, Refused or Passing."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers(token=False) | {"Accept-Encoding": "identity"}
    with _errors_of_ours():
        answer = get_session().head(url, headers=headers, follow_redirects=True, timeout=TIMEOUT)
        hf_raise_for_status(answer)
    size = answer.headers.get("Content-Length")
    if size is None:
        raise WeightsError(f"{url}: the server does not tell the size of the file; try another mirror")
    return Found(url, int(size), answer.headers.get("ETag", ""), "", True)


def _check_range(found: Found, headers: Mapping[str, str], start: int, end: int) -> None:
    """WeightsError unless the answer is for the bytes that were asked for, of the same file at the same commit."""
    given = headers.get("content-range", "")
    match = CONTENT_RANGE.fullmatch(given)
    right = match and int(match[1]) == start and int(match[2]) < end and match[3] in ("*", str(found.size))
    if not right:
        raise WeightsError(
            f"{found.location}: answered with {given!r} when bytes {start}-{end - 1} of {found.size} were asked for; "
            "try again, or another mirror"
        )


def stream(found: Found, start: int, end: int) -> Iterator[bytes]:
    """The bytes from start to end, as they come; fewer if the connection is closed early.

    Passing if it breaks, NoRanges if the server would send the whole file instead, Refused, WeightsError.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    # The token is for the hub alone: large files often lie on another server.
    headers = build_hf_headers(token=False if found.elsewhere else None) | {"Accept-Encoding": "identity"}
    whole = (start, end) == (0, found.size)
    if not whole:
        headers["Range"] = f"bytes={start}-{end - 1}"
    left = end - start
    with (
        _errors_of_ours(),
        get_session().stream("GET", found.location, headers=headers, follow_redirects=True, timeout=TIMEOUT) as answer,
    ):
        hf_raise_for_status(answer)
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise WeightsError(
                f"{found.location}: sends its content compressed, though told not to; try another mirror"
            )
        if answer.status_code == 206:
            _check_range(found, answer.headers, start, end)
        elif not whole:
            raise NoRanges
        if found.commit and answer.headers.get("X-Repo-Commit", found.commit) != found.commit:
            raise WeightsError(f"{found.location}: the repository changed while it was read; try again")
        for piece in answer.iter_raw():
            left -= len(piece)
            if left < 0:
                raise WeightsError(f"{found.location}: sends more than the {end - start} bytes that were asked for")
            yield piece
