"""The folder in which Tune keeps its notes: gone with its process, however that ended, and nobody else's is touched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.alive import Owner
from bench.launch import storage

REPOSITORY = Path(__file__).parents[2]
#: A process that makes the folder, writes to it, and ends in the way that it is told.
CHILD = """
import os, sys
from pathlib import Path
from bench.launch import session, storage
with storage.storage() as place:
    Path(place, "tuner.pkl").write_text("")
    exec(sys.argv[1])
"""


@pytest.fixture
def top(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def ended(how: str) -> int:
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, "-c", CHILD, how], env=env, timeout=120, check=False).returncode


def test_it_goes_with_its_context_and_what_is_written_later_with_the_next_removal(top):
    with storage.storage() as place:
        assert Path(place).parent == top
    assert not list(top.iterdir())
    (Path(place) / "late").mkdir(parents=True)
    storage.clear()
    assert not list(top.iterdir())


def test_it_goes_where_the_process_ends_at_once(top):
    assert ended("session.leave(3)") == 3 and not list(top.iterdir())


def test_what_a_killed_process_left_goes_as_the_next_one_begins_and_not_before(top):
    assert ended("os.kill(os.getpid(), 9)") == -9
    (left,) = top.iterdir()
    with storage.storage() as mine:
        assert list(top.iterdir()) == [Path(mine)] and Path(mine) != left
        assert ended("os.kill(os.getpid(), 9)") == -9  # it sweeps as well, and this process lives
        assert Path(mine).is_dir() and len(list(top.iterdir())) == 2


def test_only_folders_of_this_user_on_this_host_whose_process_is_gone_are_swept(top):
    me, host = Owner.here(), socket.gethostname()
    folders = {
        "bench-tune-0z6or_42": True,  # whose it is nobody knows
        f"bench-tune-{host}-{me.pid}-{me.born:.2f}-abc": True,
        f"bench-tune-{host}-{me.pid}-{me.born - 100:.2f}-abc": False,  # its pid is used again, by us
        f"bench-tune-{host}x-{me.pid}-{me.born - 100:.2f}-abc": True,
        f"bench-run-{host}-{me.pid}-{me.born - 100:.2f}-abc": True,
    }
    for name in folders:
        (top / name / "x").mkdir(parents=True)
    link = top / f"bench-tune-{host}-{me.pid}-1.00-link"
    link.symlink_to(top / "bench-tune-0z6or_42")
    storage.sweep(top)
    assert {name: (top / name / "x").exists() for name in folders} == folders and link.is_symlink()


def test_another_users_folder_stays(top, monkeypatch):
    left = top / f"bench-tune-{socket.gethostname()}-{os.getpid()}-1.00-abc"
    left.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "getuid", lambda: os.stat(left).st_uid + 1)
        storage.sweep(top)
        assert left.exists()
    storage.sweep(top)
    assert not left.exists()
