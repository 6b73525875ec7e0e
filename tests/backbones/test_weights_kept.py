"""The block cache: what is kept of a source is found again, not read again, and made anew where it is damaged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from backbones import weights
from tests.backbones import tiny
from tests.backbones.checkpoint_room import assert_same_output


def damage(path, kind):
    data = bytearray(path.read_bytes())
    if kind == "flip":
        data[-100] ^= 1
    elif kind == "header":
        data[20] = 0
    path.write_bytes(data[: len(data) // 2] if kind == "cut" else data)


@pytest.mark.parametrize("kind", ["flip", "cut", "header"])
def test_damaged_file_is_found_and_made_anew(kind, cache, tmp_path):
    row = tiny.spec("mistral")
    source = tiny.write_checkpoint(tmp_path / "c", row)
    kept = weights.fetch(row, source=source)
    damage(kept.path, kind)
    with pytest.raises(weights.WeightsError, match=r"damaged.*bench weights fetch mistral"):
        weights.load(row, kept)
    if kind != "flip":
        with pytest.raises(weights.WeightsError, match=r"damaged.*bench weights fetch mistral"):
            weights.find(row, row.layer)
    assert weights.fetch(row, source=source) == kept
    assert_same_output(row, kept)


def test_block_of_another_backbone_is_not_taken(cache, tmp_path):
    row = tiny.spec("llama3")
    kept = weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "c", row))
    kept.path.rename(kept.path.with_name("mistral-31.safetensors"))
    with pytest.raises(weights.WeightsError, match="layer 31 of llama3"):
        weights.find(tiny.spec("mistral"), 31)


def test_kept_block_is_not_read_again_and_many_may_ask(cache, tmp_path):
    row = tiny.spec("gpt2")
    source = tiny.write_checkpoint(tmp_path / "c", row)
    with ThreadPoolExecutor(4) as pool:
        kept = set(pool.map(lambda _: weights.fetch(row, source=source), range(4)))
    assert len(kept) == 1
    source.rename(tmp_path / "gone")
    lines: list[str] = []
    assert {weights.fetch(row, progress=lines.append)} == kept
    assert lines == []
    assert not list((cache / "blocks").glob("*.part"))
