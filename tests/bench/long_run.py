"""A run that goes on long enough to be looked at, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench import live
from tests.bench.test_run import command

TOKEN = "5" * 64


@contextmanager
def running(data: Path, run: Path, *arguments: str, seconds: float = 200) -> Iterator[psutil.Process]:
    """The driver's process, once a trial trains; its Ray takes TOKEN. Killed afterwards, with all that it began."""
    line = command(data, run, "--backbones", "none", "--seeds", ",".join(map(str, range(200))), *arguments)
    with (run.parent / f"{run.name}.log").open("wb") as log:
        started = subprocess.Popen(
            line, stdout=log, stderr=log, start_new_session=True, env=os.environ | {"RAY_AUTH_TOKEN": TOKEN}
        )
    process = psutil.Process(started.pid)
    try:
        deadline = time.monotonic() + seconds
        while not live.read(run) and time.monotonic() < deadline:
            assert started.poll() is None, Path(log.name).read_text()
            time.sleep(0.2)
        yield process
    finally:
        family = [*process.children(recursive=True), process] if started.poll() is None else []
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()  # how a run ends well is tested elsewhere; it takes the time of a report
        started.wait()
        psutil.wait_procs(family, timeout=30)
