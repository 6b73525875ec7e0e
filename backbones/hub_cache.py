"""The cache of huggingface_hub: a checkpoint that lies there is used without network. Standard library only.

Layout: models--OWNER--NAME/refs/REVISION holds a commit, models--OWNER--NAME/snapshots/COMMIT/ the files.
Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """Where huggingface_hub keeps what it downloads: HF_HUB_CACHE, else HF_HOME/hub, else in the user's cache."""
    if given := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(given)).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def snapshot(repo: str, revision: str) -> tuple[Path, str] | None:
    """The folder of a repository at a revision, and the commit that it had when it was downloaded; None without."""
    own = folder() / f"models--{repo.replace('/', '--')}"
    try:
        commit = (own / "refs" / revision).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        commit = revision  # a commit names itself
    path = own / "snapshots" / commit
    return (path, commit) if commit and path.is_dir() else None
