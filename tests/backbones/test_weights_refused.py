"""Checkpoints that are damaged, harmful or of another model: refused with what is wrong, and nothing is kept."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import backbones
from backbones import safetensors_file, weights
from backbones.byte_source import LocalFile
from backbones.torch_bytes import as_tensor
from tests.backbones import tiny
from tests.backbones.checkpoint_room import write_pickles


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_that_is_more_than_weights_is_refused(cache, tmp_path, capsys):
    row = tiny.spec("mistral")
    folder = write_pickles(tmp_path / "c", row, False)
    torch.save(torch.load(folder / "pytorch_model.bin") | {"x": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(weights.WeightsError, match=r"pytorch_model.bin: refused.*safetensors"):
        weights.fetch(row, source=folder)
    assert "executed" not in capsys.readouterr().out
    for size in (0, 10, 5000):
        data = write_pickles(tmp_path / "d", row, False) / "pytorch_model.bin"
        data.write_bytes(data.read_bytes()[:size])
        with pytest.raises(weights.WeightsError, match=r"pytorch_model.bin: (refused|cannot be read)"):
            weights.fetch(row, source=tmp_path / "d")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, 250),
    piece=st.binary(max_size=3) | st.sampled_from([b'"', b"-1", b"1.5", b"[[", b"null", b"F8_E4M3"]),
    size=st.integers(0, 400) | st.none(),
)
def test_whatever_is_damaged_in_a_safetensors_file_the_error_is_ours(tmp_path, place, piece, size):
    path = tmp_path / "t.safetensors"
    save_file({"a": torch.ones(4), "b": torch.ones(2, 8).bfloat16()}, path)
    data = path.read_bytes()
    path.write_bytes((data[:place] + piece + data[place + len(piece) :])[:size])
    with closing(LocalFile(path)) as file:
        try:
            found = safetensors_file.read(file, safetensors_file.entries(file, "t.safetensors"))
        except weights.WeightsError as error:
            assert "t.safetensors" in str(error)
        else:
            for raw in found.values():
                as_tensor(raw)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4, but backbone 'llama3' has 1"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps"),
        ({"model_type": "mistral"}, "model_type is 'mistral'"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"hidden_size": "wide"}, "not a configuration"),
    ],
)
def test_config_of_another_model(changes, words, cache, tmp_path):
    row = tiny.spec("llama3")
    source = tiny.write_checkpoint(tmp_path / "c", row)
    edit(source / "config.json", **changes)
    with pytest.raises(weights.WeightsError, match=words):
        weights.fetch(row, source=source)
    assert weights.find(row, row.layer) is None


def break_index(source, edit_places):
    path = source / "model.safetensors.index.json"
    places = json.loads(path.read_text())["weight_map"]
    path.write_text(json.dumps({"weight_map": edit_places(places)}))


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (lambda c: (c / "c.safetensors").unlink(), "shard c.safetensors of layer 31 is missing"),
        (lambda c: break_index(c, lambda p: dict.fromkeys(p, "../c.safetensors")), "leads out of the checkpoint"),
        (lambda c: break_index(c, lambda p: dict.fromkeys(p, "b.safetensors")), "though the index says so"),
        (lambda c: break_index(c, lambda p: {k: v for k, v in p.items() if v == "b.safetensors"}), "is missing in"),
        (lambda c: break_index(c, lambda p: {"lm_head.weight": "a.safetensors"}), "no tensors of layer 31"),
        (lambda c: (c / "model.safetensors.index.json").write_text("{"), "not JSON"),
        (lambda c: (c / "model.safetensors.index.json").unlink(), "neither model.safetensors.index.json nor"),
        (lambda c: (c / "b.safetensors").write_bytes(b"\xff" * 50), "not a safetensors file"),
        (lambda c: (c / "b.safetensors").write_bytes((c / "b.safetensors").read_bytes()[:-8]), "ends too early"),
    ],
)
def test_broken_checkpoints(breaking, words, cache, tmp_path):
    row = tiny.spec("llama3")
    source = tiny.write_checkpoint(tmp_path / "c", row)
    breaking(source)
    with pytest.raises(weights.WeightsError, match=words):
        weights.fetch(row, source=source)
    assert weights.find(row, row.layer) is None


def test_wrong_sizes_are_refused_without_a_config(cache, tmp_path):
    row = tiny.spec("llama3")
    source = tiny.write_checkpoint(tmp_path / "c", row)
    (source / "config.json").unlink()
    wider = replace(row, config=row.config | {"intermediate_size": 232})
    with pytest.raises(weights.WeightsError, match=r"has shape \[.*needs"):
        weights.fetch(wider, source=source)


def test_gguf_of_another_model(cache, tmp_path):
    row = tiny.spec("llama3")
    with pytest.raises(weights.WeightsError, match="architecture is 'gpt2'"):
        weights.fetch(row, source=tiny.write_gguf(tmp_path / "g.gguf", tiny.spec("gpt2")))
    with pytest.raises(weights.WeightsError, match="head_count is 8"):
        weights.fetch(row, source=tiny.write_gguf(tmp_path / "h.gguf", row, heads=8))
    with pytest.raises(weights.WeightsMissing, match=r"blk\.3\."):
        weights.fetch(row, 3, tiny.write_gguf(tmp_path / "t.gguf", row))
    for size in (10, 500, 20_000):
        (tmp_path / "cut.gguf").write_bytes((tmp_path / "t.gguf").read_bytes()[:size])
        with pytest.raises(weights.WeightsError, match="cannot be read as GGUF"):
            weights.fetch(row, source=tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("layer", "source", "words"),
    [
        (99, None, "layers 0 to 31, not 99"),
        (-1, None, "not -1"),
        (None, "/no/such", "--weights llama3=/no/such"),
        (None, "package", "no package carries"),
    ],
)
def test_wrong_requests(layer, source, words, cache):
    with pytest.raises(weights.WeightsError, match=words):
        weights.fetch(backbones.get("llama3"), layer, source)
