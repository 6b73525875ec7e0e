"""The token of Ray's dashboard is for its owner alone, and goes into no log."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.launch import token
from bench.launch.session import Dashboard


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "to be taken back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_once_and_only_its_owner_reads_it(home):
    before = os.umask(0)
    try:
        with ThreadPoolExecutor(8) as many:
            list(many.map(lambda _: token.ensure(), range(32)))
    finally:
        os.umask(before)
    file = home / ".ray" / "auth_token"
    made = token.read()
    assert len(made) == 64 and int(made, 16) and [path.name for path in file.parent.iterdir()] == [file.name]
    assert mode(file) == 0o600 and mode(file.parent) == 0o700
    token.ensure()
    assert token.read() == made


def test_a_file_that_all_could_read_is_closed(home):
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("a" * 64 + "\n")
    file.chmod(0o644)
    token.ensure()
    assert mode(file) == 0o600 and token.read() == "a" * 64


def test_where_home_takes_no_file_the_token_stays_in_the_environment(home):
    (home / ".ray").touch()
    token.ensure()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64 and token.read() == os.environ["RAY_AUTH_TOKEN"]
    assert token.where() == "the value of RAY_AUTH_TOKEN"


@pytest.mark.parametrize("given", [{"RAY_AUTH_TOKEN": "b" * 64}, {"RAY_AUTH_MODE": "disabled"}])
def test_what_the_user_has_set_stays(home, monkeypatch, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    token.ensure()
    assert not (home / ".ray").exists() and token.read() == given.get("RAY_AUTH_TOKEN", "")


def test_only_a_terminal_is_shown_the_token(home, monkeypatch):
    token.ensure()
    found = Dashboard("http://127.0.0.1:1", token.read(), "")
    assert found.token in found.words(private=True) and found.token not in found.words(private=False)
    assert str(home / ".ray" / "auth_token") in found.words(private=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "no token" in Dashboard("http://127.0.0.1:1", token.read(), "").words(private=True)
