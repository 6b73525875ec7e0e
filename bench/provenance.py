"""Where a record came from: code, versions, machine. No torch."""

from __future__ import annotations

import functools
import hashlib
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "monai", "ray", "numpy", "pandas", "nibabel", "scipy")
_OWN = ("bench", "backbones", "mvl", "results", "reports")
_ROOT = Path(__file__).resolve().parent.parent


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def code_and_machine() -> dict[str, Any]:
    """commit (None outside a git checkout), dirty, python, platform, host, versions of the packages that matter."""
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that a number can depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def code() -> str:
    """A digest of the suite's own files, wherever they lie."""
    digest = hashlib.sha256()
    for path in sorted(path for name in _OWN for path in (_ROOT / name).rglob("*.py")):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or an installed copy without a repository: a commit is then unknown, and shown as such
    return done.stdout.strip()
