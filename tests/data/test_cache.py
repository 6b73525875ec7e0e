"""The cache folder: where it is, and that many writers make one thing once."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bench.data.cache import cache_dir, write_once
from bench.data.folder import DataError, open_task
from bench.data.preparation import Preparation
from bench.data.volumes import prepare_case


def test_where_the_cache_folder_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_dir() == Path("/a")
    monkeypatch.delenv("BENCH_CACHE")
    assert cache_dir() == Path("/b/frozen-block-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert cache_dir() == Path("/h/.cache/frozen-block-bench")


def test_many_writers_write_once_and_nobody_sees_half(tmp_path: Path) -> None:
    target, calls, start = tmp_path / "deep" / "thing", [], threading.Barrier(4)

    def write(path: Path) -> None:
        calls.append(path)
        path.mkdir()
        (path / "a").write_text("1")
        time.sleep(0.05)
        assert not target.exists()
        (path / "b").write_text("2")

    def work(_: int) -> list[str]:
        start.wait()
        return sorted(path.name for path in write_once(target, write).iterdir())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [["a", "b"]] * 4
    assert len(calls) == 1


def test_leftovers_of_a_killed_writer_are_replaced(tmp_path: Path) -> None:
    (tmp_path / ".thing.partial").mkdir()
    (tmp_path / ".thing.partial" / "half").write_text("x")

    def write(path: Path) -> None:
        path.mkdir()

    assert list(write_once(tmp_path / "thing", write).iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
import bench.data.volumes as volumes
from bench.data.folder import open_task
from bench.data.preparation import Preparation

def stuck(label):
    print("half", flush=True)
    time.sleep(60)

volumes._positions = stuck
case = open_task(Path(sys.argv[1]), "Task99_Tiny").cases[0]
volumes.prepare_case(case, Preparation((2.0, 2.0, 3.0)), Path(sys.argv[2]))
"""


def test_a_writer_that_is_killed_is_followed_by_one_that_completes(tiny_msd: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tiny_msd), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == "half"
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    left = [path for path in (tmp_path / "prepared").iterdir() if path.name != ".locks"]
    assert [path.suffix for path in left] == [".partial"]
    assert sorted(path.name for path in left[0].iterdir()) == ["image.npy", "label.npy"]
    case = open_task(tiny_msd, "Task99_Tiny").cases[0]
    prepared = prepare_case(case, Preparation((2.0, 2.0, 3.0)), tmp_path)
    assert prepared.positions().shape[1] == 4
    assert not left[0].exists()


def test_a_full_disk_names_case_folder_and_what_helps(
    tiny_msd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for the disk: NumPy fails in the middle of the image."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    case = open_task(tiny_msd, "Task99_Tiny").cases[0]
    prepare_case(case, Preparation((9.0, 9.0, 9.0)), tmp_path)  # its facts are remembered
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        with pytest.raises(DataError) as error:
            prepare_case(case, Preparation((2.0, 2.0, 3.0)), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    text = str(error.value)
    assert text.startswith(f"tiny_0: cannot be written to {tmp_path / 'prepared'} (")
    assert "MB free" in text
    assert "make room there" in text and "BENCH_CACHE" in text
    assert len([path for path in (tmp_path / "prepared").iterdir() if path.name != ".locks"]) == 1
    assert np.asarray(prepare_case(case, Preparation((2.0, 2.0, 3.0)), tmp_path).image()).shape == (1, 20, 20, 20)


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"case_1: cannot be written to .*file/deep \(Not a directory"):
        write_once(tmp_path / "file" / "deep" / "thing", lambda path: path.mkdir(), "case_1")


def test_advice_fits_the_error_and_the_place(cache: Path, tmp_path: Path) -> None:
    def fail(place: Path, number: int) -> str:
        def write(path: Path) -> None:
            raise OSError(number, os.strerror(number))

        with pytest.raises(DataError) as error:
            write_once(place / "thing", write)
        return str(error.value)

    for place, named in ((cache / "contents", True), (tmp_path / "data", False)):
        full, denied = fail(place, errno.ENOSPC), fail(place, errno.EACCES)
        assert ("BENCH_CACHE" in full, "BENCH_CACHE" in denied) == (named, named)
        assert "make room" in full and "MB free" in full and "larger disk" in full
        assert "make room" not in denied and "MB free" not in denied and "Permission denied" in denied
