"""The door that users come in by, within a test's own process."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from bench.cli import main


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m bench …` in this process: its imports are paid once. What it prints, and its exit code."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in ({"HF_HUB_OFFLINE": "0"} | environment).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["bench", *arguments])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def flags_of(*settings: str) -> list[str]:
    """`--set SETTING` for each of them."""
    return [part for setting in settings for part in ("--set", setting)]
