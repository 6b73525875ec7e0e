"""One layer from each kind of source: shards, one file, pickles, GGUF, whatever their prefixes and names."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones import controls, safetensors_file, weights
from backbones.byte_source import LocalFile
from tests.backbones import tiny
from tests.backbones.checkpoint_room import assert_same_output, every_row, write_pickles


@every_row
def test_layer_over_two_shards_gives_the_same_output(name, cache, tmp_path):
    row = tiny.spec(name)
    kept = weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "checkpoint", row))
    assert_same_output(row, kept)
    assert kept == weights.find(row, row.layer)
    assert (kept.layer, kept.licence, kept.source) == (row.layer, row.licence, str(tmp_path / "checkpoint"))
    assert kept.path.is_relative_to(cache)
    assert weights.find(row, 0) is None


@pytest.mark.parametrize("name", tiny.IN_GGUF)
def test_gguf_gives_the_same_output(name, cache, tmp_path):
    row = tiny.spec(name)
    kept = weights.fetch(row, source=tiny.write_gguf(tmp_path / "tiny.gguf", row))
    for key, tensor in weights.load(row, kept).items():
        torch.testing.assert_close(tensor, tiny.tensors(row)[key], rtol=0, atol=1e-6)  # Gemma: 1 added, 1 taken


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("gpt2", "transformer."), ("llama3", "model."), ("llama3", ""), ("gemma3-270m", "language_model.model.")],
)
def test_prefixes_of_checkpoints(name, prefix, cache, tmp_path):
    row = tiny.spec(name)
    assert_same_output(row, weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "c", row, prefix)))


def test_single_file_and_another_layer_in_bf16(cache, tmp_path):
    row = tiny.spec("gpt2")
    (tmp_path / "c").mkdir()
    state = {f"h.4.{key}": tensor.bfloat16() for key, tensor in tiny.tensors(row, 4).items()}
    save_file(state | {"h.4.attn.bias": torch.ones(1), "wte.weight": torch.ones(3)}, tmp_path / "c/model.safetensors")
    kept = weights.fetch(row, 4, tmp_path / "c")
    found = weights.load(row, kept)
    assert all(torch.equal(tensor, state[f"h.4.{key}"]) for key, tensor in found.items())
    assert controls.build(row, "pretrained", 4, kept).layer.ln_1.weight.dtype == torch.float32
    assert load_file(kept.path).keys() == tiny.tensors(row).keys()


def test_tensors_in_between_are_not_read(tmp_path):
    save_file({"a": torch.ones(4), "b": torch.ones(1000), "c": torch.ones(4)}, tmp_path / "t.safetensors")

    class Counting(LocalFile):
        total = 0

        def take(self, start, size):
            Counting.total += size
            return super().take(start, size)

    with closing(Counting(tmp_path / "t.safetensors")) as file:
        found = safetensors_file.read(file, safetensors_file.entries(file, "t", ["a", "c"]))
    assert {name: bytes(raw.data) for name, raw in found.items()} == dict.fromkeys(
        "ac", torch.ones(4).numpy().tobytes()
    )
    assert Counting.total < 1000


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("sharded", [False, True])
def test_pickles_give_the_same_output(sharded, options, cache, tmp_path):
    row = tiny.spec("mistral")
    assert_same_output(row, weights.fetch(row, source=write_pickles(tmp_path / "c", row, sharded, **options)))


@every_row
def test_every_source_gives_the_same_bytes(name, cache, tmp_path):
    row = tiny.spec(name)
    expected = weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "sharded", row)).sha256
    assert weights.fetch(row, source=write_pickles(tmp_path / "pickle", row, False)).sha256 == expected
    state = torch.load(tmp_path / "pickle" / "pytorch_model.bin")
    (tmp_path / "pickle" / "pytorch_model.bin").rename(tmp_path / "pickle" / "old.bin")
    save_file(state, tmp_path / "pickle" / "model.safetensors")
    assert weights.fetch(row, source=tmp_path / "pickle").sha256 == expected


@pytest.mark.parametrize("as_pickle", [False, True])
def test_old_names_of_tensors(as_pickle, cache, tmp_path):
    row = tiny.spec("bert-base")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {f"bert.encoder.layer.{row.layer}.{name}": tensor for name, tensor in tiny.tensors(row).items()}
    for now, then in old.items():
        state = {name.replace(now, then): tensor for name, tensor in state.items()}
    (tmp_path / "c").mkdir()
    if as_pickle:
        torch.save(state, tmp_path / "c" / "pytorch_model.bin")
    else:
        save_file(state, tmp_path / "c" / "model.safetensors")
    assert_same_output(row, weights.fetch(row, source=tmp_path / "c"))


def test_hash_does_not_depend_on_the_source(cache, tmp_path):
    row = tiny.spec("llama3")
    one = weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "c", row)).sha256
    assert one == weights.fetch(row, source=tiny.write_gguf(tmp_path / "t.gguf", row)).sha256


def test_config_of_text_and_images(cache, tmp_path):
    row = tiny.spec("gemma3-270m")
    source = tiny.write_checkpoint(tmp_path / "c", row, "model.language_model.")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}))
    assert_same_output(row, weights.fetch(row, source=source))
