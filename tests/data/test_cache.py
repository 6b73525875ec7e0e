"""The cache folder: where it is, and that many writers make one thing once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.data.cache import cache_dir, write_once


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
