"""Time left is an estimate that a reader can trust to be one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.progress import TrialProgress, duration


@pytest.mark.parametrize(("seconds", "text"), [(12.4, "12 s"), (150, "2 min"), (7200, "2.0 h")])
def test_durations_are_as_exact_as_an_estimate_deserves(seconds, text):
    assert duration(seconds) == text


def test_lines_are_printed_once_a_trial_where_there_is_no_terminal(capsys):
    with TrialProgress({"a": "Task with x (stand-in, random)", "b": "other"}, Console(file=io.StringIO())) as progress:
        assert progress.left() == "time left unknown"
        for share in (0.3, 0.9, 1.0, 1.0):
            progress.update("a", share)
        progress.started -= 60
        assert progress.left() == "60 s left"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("1 of 2  Task with x (stand-in, random)")
