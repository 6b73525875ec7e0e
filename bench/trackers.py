"""`--log`: experiment trackers of others that a run may tell of its trials, and what must be here for that."""

from __future__ import annotations

import importlib.util
import netrc
import os

#: The names that `--log` takes; each is the name of its package, and of an extra of this one.
KNOWN = ("mlflow", "wandb")


def problem(name: str) -> str:
    """What keeps a run from telling this tracker, and what would work; empty where nothing does."""
    if not name:
        return ""
    if name not in KNOWN:
        return f"--log: {name!r} is not one of {', '.join(KNOWN)}"
    if importlib.util.find_spec(name) is None:
        return f"--log {name}: the package {name} is not installed; pip install 'frozen-block-bench[{name}]'"
    if name == "wandb" and not _logged_in():
        return "--log wandb: no key; run `wandb login`, set WANDB_API_KEY, or WANDB_MODE=offline to send nothing"
    return ""


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
