"""The block cache: many writers, what lies in it, and a fetch that is killed half way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from backbones import safetensors_file, weights
from backbones.safetensors_file import Raw
from backbones.torch_bytes import DTYPES, as_raw, as_tensor
from tests.backbones import tiny
from tests.backbones.checkpoint_room import assert_same_output
from tests.backbones.hub_server import HubServer

ROW = tiny.spec("gpt2")


def fetch_and_tell(source: Path, answers) -> None:
    lines: list[str] = []
    kept = weights.fetch(ROW, progress=lines.append) if weights.find(ROW, ROW.layer) else None
    kept = kept or weights.fetch(ROW, source=source, progress=lines.append)
    weights.load(ROW, kept)
    answers.put(kept)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked, which spares them the imports")
def test_many_processes_at_once(cache, tmp_path):
    source = tiny.write_checkpoint(tmp_path / "c", ROW)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=fetch_and_tell, args=(source, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    kept = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(kept) == 1
    assert_same_output(ROW, kept.pop())
    assert {path.suffix for path in (cache / "blocks").iterdir()} == {".safetensors", ".lock"}


def test_who_must_wait_is_told(cache, tmp_path):
    source = tiny.write_checkpoint(tmp_path / "c", ROW)
    lines: list[str] = []
    (cache / "blocks").mkdir(parents=True)
    lock = FileLock(cache / "blocks" / "gpt2-11.safetensors.lock")

    def say(line: str) -> None:
        lines.append(line)
        lock.release()

    with lock:
        weights.fetch(ROW, source=source, progress=say)
    assert "waiting for another process" in lines[0]


def test_what_lies_in_the_cache(cache, tmp_path):
    source = tiny.write_checkpoint(tmp_path / "c", ROW)
    assert weights.survey() == []
    own = weights.fetch(ROW, source=source)
    apart = weights.fetch(ROW, source=source, apart=True)
    other = weights.fetch(tiny.spec("llama3"), source=tiny.write_checkpoint(tmp_path / "d", tiny.spec("llama3")))
    assert {finding.block for finding in weights.survey(hashes=False)} == {own, apart, other}
    assert {(found.backbone, found.layer) for found in weights.survey()} == {("gpt2", 11), ("llama3", 31)}
    assert {finding.block for finding in weights.survey(["gpt2"])} == {own, apart}
    data = bytearray(own.path.read_bytes())
    data[-3] ^= 1
    own.path.write_bytes(data)
    apart.path.write_bytes(apart.path.read_bytes()[:100])
    found = {finding.path: finding for finding in weights.survey()}
    assert [found[block.path].problem == "" for block in (own, apart, other)] == [False, False, True]
    assert "bench weights fetch gpt2@11" in found[own.path].problem
    assert (found[apart.path].backbone, found[apart.path].layer, found[apart.path].block) == ("gpt2", 11, None)
    assert {finding.block for finding in weights.survey(hashes=False)} == {own, other, None}


@pytest.mark.parametrize("name", DTYPES)
def test_bytes_become_tensors_without_a_copy_where_the_address_allows_it(name):
    dtype = DTYPES[name]
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    raw = as_raw(tensor)
    assert (raw.dtype, raw.shape) == (name, (2, 3))
    buffer = bytearray(b"x" * 16 + bytes(raw.data))
    view = as_tensor(Raw(name, (2, 3), memoryview(buffer)[16:]))
    buffer[16:] = bytes(len(raw.data))
    assert torch.equal(view, torch.zeros_like(tensor))
    odd = memoryview(bytearray(b"x" + bytes(raw.data)))[1:]
    assert torch.equal(as_tensor(Raw(name, (2, 3), odd)), tensor)
    assert as_tensor(Raw(name, (0, 3), b"")).shape == (0, 3)
    assert safetensors_file.ELEMENT.keys() == DTYPES.keys()


def test_what_is_loaded_may_be_trained(cache, tmp_path):
    kept = weights.fetch(ROW, source=tiny.write_checkpoint(tmp_path / "c", ROW))
    for tensor in weights.load(ROW, kept).values():
        tensor += 1
    weights.verify(ROW, kept)


def test_straight_from_a_path(cache, tmp_path):
    found = weights.read(ROW, ROW.layer, tiny.write_checkpoint(tmp_path / "c", ROW))
    assert all(torch.equal(found[name], tensor) for name, tensor in tiny.tensors(ROW).items())
    assert not cache.exists()
    with pytest.raises(weights.WeightsMissing, match="neither a checkpoint nor"):
        weights.read(ROW, ROW.layer, tmp_path / "none")


@pytest.mark.slow
def test_a_fetch_that_was_killed_goes_on_in_another_process(cache, tmp_path, monkeypatch):
    row = tiny.spec("llama3")
    with HubServer(tiny.write_checkpoint(tmp_path / "served", row), row.repo) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        hub.faults.stalls, hub.faults.stall, hub.faults.above = -1, 300.0, 50_000
        script = "from backbones import weights; from tests.backbones import tiny; weights.fetch(tiny.spec('llama3'))"
        process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
        parts = cache / "blocks" / "llama3-31.partial"
        try:
            wait_for(lambda: any(path.stat().st_size > 30_000 for path in parts.glob("*")), 100)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        hub.faults.stalls = 0
        before = hub.sent
        assert_same_output(row, weights.fetch(row))
        whole = sum(4 * tensor.numel() for tensor in tiny.tensors(row).values())
        assert 0 < hub.sent - before < whole - 30_000
    assert not parts.exists()


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
