"""Who may command Ray: the token of its own token authentication, kept where only its owner reads it."""

from __future__ import annotations

import os
import secrets
import uuid
from pathlib import Path

_VARIABLE, _PLACE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def place() -> Path:
    """The file in which Ray looks for the token."""
    given = os.environ.get(_PLACE)
    return Path(given) if given else Path.home() / ".ray" / "auth_token"


def ensure() -> None:
    """Make a token where there is none: Ray would write it for every user of the machine to read.

    Where the home folder takes no file, the token lives in this process's environment alone, and Ray's processes
    inherit it.
    """
    if os.environ.get(_VARIABLE) or os.environ.get(_PLACE) or not wanted():
        return
    try:
        _write_once(place(), secrets.token_hex(32))
        place().chmod(0o600)  # also one that Ray itself once wrote
    except OSError:
        if not place().is_file():
            os.environ[_VARIABLE] = secrets.token_hex(32)


def wanted() -> bool:
    """False where the user has switched authentication off."""
    return os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"


def read() -> str:
    """The token that Ray takes, as Ray looks for it; empty where there is none or none is wanted."""
    if not wanted():
        return ""
    try:
        return os.environ.get(_VARIABLE) or place().read_text().strip()
    except OSError:
        return ""


def where() -> str:
    """How somebody who may know it gets the token, in words."""
    if os.environ.get(_VARIABLE):
        return f"the value of {_VARIABLE}"
    return f"in {place()}; `ray get-auth-token` prints it"


def _write_once(path: Path, token: str) -> None:
    """Of several that write at once the first wins, and none ever reads a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(token)
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink(missing_ok=True)
