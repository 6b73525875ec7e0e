"""The harness of `python -m tests.speed`: what it prints, how it ends, and in which order it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.speed import block, checkpoints, harness, weights
from tests.speed.__main__ import main
from tests.speed.harness import CannotMeasure, Measurement, Reading

KEYS = {"name", "ours", "peer", "peer_name", "ratio", "bar", "holds"}


def fake(name: str, take, bar: float | None = 0.5, of: str = "ratio") -> Measurement:
    return Measurement(name, f"what {name} promises", "peer 1.0", bar, take, of)


def missing(runs: int) -> Reading:
    raise CannotMeasure("no such file here")


FAKES = [
    fake("holds", lambda runs: Reading(1.0, 4.0)),
    fake("short", lambda runs: Reading(3.0, 4.0)),
    fake("undecided", lambda runs: Reading(3.0, 4.0, "as measured", undecided="this CPU cannot")),
    fake("missing", missing),
    fake("alone", lambda runs: Reading(0.1), bar=0.2, of="ours"),
    fake("counted", lambda runs: Reading(100, 900, exact=True, runs=1, bar=120), bar=None, of="ours"),
]


@pytest.fixture
def speed(monkeypatch):
    """Call the command with fake measurements: exit code, the lines of JSON, all that was said beside them."""
    monkeypatch.setattr(harness, "ROOMS", ())
    monkeypatch.setattr(harness, "_MEASUREMENTS", {measured.name: measured for measured in FAKES})

    def call(*arguments: str) -> tuple[int, list[dict], str]:
        done = CliRunner().invoke(main, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done.exit_code, lines, done.output

    return call


def only(*names: str) -> list[str]:
    return [part for name in names for part in ("--only", name)]


@pytest.mark.parametrize(
    ("names", "code", "holds"),
    [
        (["holds"], 0, [True]),
        (["short"], 1, [False]),
        (["undecided"], 0, [None]),
        (["missing"], 0, [None]),
        (["alone"], 0, [True]),
        (["counted"], 0, [True]),
        (["short", "holds"], 1, [False, True]),
        (["undecided", "holds", "missing"], 0, [None, True, None]),
        ([], 1, [True, False, None, None, True, True]),
    ],
)
def test_exit_code_says_whether_a_bar_falls_short(speed, names, code, holds):
    found, lines, _ = speed(*only(*names))
    assert found == code
    assert [line["holds"] for line in lines] == holds
    assert [line["name"] for line in lines] == (names or [measured.name for measured in FAKES])


def test_every_line_has_the_keys_and_progress_goes_elsewhere(speed):
    done = CliRunner().invoke(main, [])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.keys() >= KEYS for line in lines)
    assert lines[0]["peer_name"] == "peer 1.0" and lines[0]["ratio"] == 0.25 and lines[0]["bar"] == 0.5
    assert "[1/6] holds: what holds promises" in done.stderr


def test_what_a_measurement_prints_is_not_among_the_lines(speed, monkeypatch):
    chatty = fake("chatty", lambda runs: print("a library says hello") or Reading(1.0, 4.0))
    monkeypatch.setitem(harness._MEASUREMENTS, "chatty", chatty)
    done = CliRunner().invoke(main, only("chatty"))
    assert json.loads(done.stdout)["holds"] is True and "says hello" in done.stderr


def test_what_cannot_be_decided_says_why_and_what_it_measured(speed):
    _, (undecided, absent), _ = speed(*only("undecided", "missing"))
    assert undecided["note"] == "this CPU cannot; as measured" and undecided["ours"] == 3.0
    assert absent["note"] == "not measured: no such file here" and absent["ours"] is None and absent["bar"] == 0.5


def test_few_runs_give_numbers_and_no_verdict_unless_they_count(speed):
    code, (short, counted), _ = speed("--runs", "4", *only("short", "counted"))
    assert code == 0
    assert short["holds"] is None and short["ratio"] == 0.75 and short["note"] == "4 runs decide nothing, 5 do"
    assert counted["holds"] is True and counted["runs"] == 1 and counted["bar"] == 120


def test_unknown_name_is_answered_with_the_nearest(speed):
    code, lines, output = speed(*only("holds", "undecide"))
    assert code == 2 and lines == []
    assert "unknown measurement 'undecide'; did you mean 'undecided'? known: holds, short" in output


def test_list_measures_nothing(speed, monkeypatch):
    monkeypatch.setattr(harness, "judged", lambda *given: pytest.fail("measured"))
    code, _, output = speed("--list")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == [measured.name for measured in FAKES]


def test_an_error_in_a_measurement_is_not_hidden(speed, monkeypatch):
    broken = fake("broken", lambda runs: Reading(1.0, 1 / 0))
    monkeypatch.setitem(harness._MEASUREMENTS, "broken", broken)
    assert isinstance(CliRunner().invoke(main, only("broken")).exception, ZeroDivisionError)


@given(ours=st.floats(1e-3, 1e3), peer=st.floats(1e-3, 1e3), bar=st.floats(1e-3, 1e3))
def test_a_bar_holds_when_the_ratio_is_at_most_the_bar(ours, peer, bar):
    line = harness.judged(fake("any", lambda runs: Reading(ours, peer), bar=bar), 5)
    assert line["holds"] is (ours / peer <= bar)


@given(ours=st.lists(st.floats(1e-3, 9), min_size=1, max_size=9), data=st.data())
def test_ours_and_the_peer_take_turns_and_the_turn_in_the_middle_counts(ours, data):
    peer = data.draw(st.lists(st.floats(1e-3, 9), min_size=len(ours), max_size=len(ours)))
    calls: list[str] = []

    def side(name, numbers):
        left = iter([99.0, *numbers])  # the first call warms up and does not count
        return lambda: calls.append(name) or next(left)

    found = harness.alternate(side("ours", ours), side("peer", peer), len(ours), gauge=harness.value)
    assert calls == ["ours", "peer"] * (len(ours) + 1)
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    assert found in zip(ours, peer, strict=True)
    assert found[0] / found[1] == sorted(ratios)[(len(ours) - 1) // 2]


def test_a_fresh_process_is_another_one_and_its_failure_is_told():
    import os

    assert harness.fresh("os", "getpid") != os.getpid()
    with pytest.raises(RuntimeError, match=r"No module named 'tests\.speed\.nowhere'"):
        harness.fresh("tests.speed.nowhere", "x")


def test_the_real_measurements_are_listed_without_torch_in_the_way():
    code = "import sys; from tests.speed import harness; print(*harness.measurements()); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    names, torch_is_here = done.stdout.splitlines()
    assert {"layer-from-shards", "layer-from-hub-bytes", "block-from-gguf", "block-8b-bf16"} <= set(names.split())
    assert torch_is_here == "False"


def test_the_flags_of_a_cpu_decide_about_bf16(monkeypatch):
    for flags, expected in (("fpu avx2 fma", False), ("avx512f avx512_bf16", True), ("amx_bf16", True)):
        monkeypatch.setattr(Path, "is_file", lambda path: True)
        monkeypatch.setattr(Path, "read_text", lambda path, flags=flags: f"flags\t\t: {flags}\n")
        assert block.multiplies_bf16() is expected


def test_the_peak_of_memory_grows_by_what_is_held():
    """In a process of its own: the peak of this one may be far above by now."""
    code = "import numpy as np; from tests.speed import weights; print(weights.growth(lambda: np.ones(8_000_000)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert 64e6 <= float(done.stdout.split()[-1]) <= 70e6


def test_the_checkpoint_is_what_both_sides_read(tmp_path):
    """Ours and the peer's end with the same numbers: they are measured at the same task."""
    import torch

    row = checkpoints.llama(64, 96)
    checkpoints.write_checkpoint(tmp_path, row, "1MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ours = weights.read_block(row, tmp_path).layer.state_dict()
    theirs = weights.whole_model(tmp_path).layers[row.layer].state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, theirs[name])
    cached = weights.block_through_cache(row, tmp_path).layer.state_dict()
    assert all(torch.equal(tensor.float(), cached[name].float()) for name, tensor in ours.items())


def test_a_hub_sends_the_block_and_headers_to_us_and_every_shard_to_the_peer(monkeypatch):
    row = checkpoints.llama(64, 96)
    monkeypatch.setattr(weights, "LARGE", row)
    monkeypatch.setattr(weights, "SHARD", "1MB")
    reading = weights.layer_from_hub_bytes(1)
    block_bytes = weights.block_bytes(row)
    assert reading.exact and block_bytes < reading.ours < 3 * block_bytes  # the index counts in so small a model
    assert reading.peer > 32 * block_bytes + 4 * checkpoints.VOCABULARY * row.width
    assert 1.05 * block_bytes < reading.bar < reading.ours


def test_the_verdict_of_bf16_waits_for_a_cpu_that_has_it(monkeypatch):
    row = checkpoints.llama(64, 96)
    monkeypatch.setattr(block, "multiplies_bf16", lambda: False)
    monkeypatch.setattr("backbones.get", lambda name: row)
    monkeypatch.setattr(block, "TOKENS", 16)
    reading = block.gain_of_bf16(5)
    assert reading.runs == 1 and "no bf16 instructions" in reading.undecided and reading.peer > 0
    monkeypatch.setattr(block, "multiplies_bf16", lambda: True)
    reading = block.share_bf16(3)
    assert reading.undecided == "" and reading.runs == 3
    assert reading.note == f"bare products take {reading.peer / reading.ours:.0%} of the block's time"
