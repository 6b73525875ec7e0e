"""GGUF: our header reader against gguf's own, and our tensors against those that transformers makes of the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import backbones
from backbones import gguf_file, gguf_header, package, registry, weights
from backbones.errors import WeightsError
from backbones.gguf_header import GgufError
from backbones.torch_bytes import as_tensor
from tests.backbones import tiny

#: A Llama whose rows divide into the blocks of every type.
WIDE = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA = replace(
    backbones.get("smollm2"),
    width=256,
    layers=2,
    layer=1,
    config=backbones.get("smollm2").config | WIDE | {"num_hidden_layers": 2},
)
VOCABULARY = 32


def write_llama(path: Path, kind: gguf.GGMLQuantizationType) -> Path:
    """A whole tiny Llama with a vocabulary, its matrices of this type."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LLAMA.layers)
    writer.add_context_length(64)
    writer.add_embedding_length(LLAMA.width)
    writer.add_feed_forward_length(LLAMA.config["intermediate_size"])
    writer.add_head_count(LLAMA.config["num_attention_heads"])
    writer.add_head_count_kv(LLAMA.config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {number} é" for number in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_scores([0.5] * VOCABULARY)
    writer.add_array("flags", [True, False, True])
    random = np.random.default_rng(0)
    shapes = {"token_embd.weight": (VOCABULARY, LLAMA.width), "output_norm.weight": (LLAMA.width,)}
    own = tiny.tensors(LLAMA)
    for layer in range(LLAMA.layers):
        names = registry.family(LLAMA).tensors
        shapes |= {f"blk.{layer}.{names[name]}": tuple(tensor.shape) for name, tensor in own.items()}
    for name, shape in shapes.items():
        array = random.normal(0, 0.2, shape).astype(np.float32)
        if len(shape) == 2:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def assert_as_transformers_reads_it(path: Path, row, monkeypatch=None) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    theirs = tiny.layers(model.model)[row.layer].state_dict()
    ours = gguf_file.read_layer(path, row, row.layer)
    assert ours.keys() == theirs.keys()
    for name, raw in ours.items():
        assert torch.equal(as_tensor(raw), theirs[name]), name


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_bit_identical_to_transformers(kind, tmp_path):
    path = write_llama(tmp_path / "tiny.gguf", gguf.GGMLQuantizationType[kind])
    assert_as_transformers_reads_it(path, LLAMA)


@pytest.mark.weights
def test_smollm2_bit_identical_to_transformers(tmp_path):
    row = backbones.get("smollm2")
    path = package.get(row, tmp_path, lambda line: None)
    assert_as_transformers_reads_it(path, row)
    assert_same_header(path)


def assert_same_header(path: Path) -> None:
    ours, theirs = gguf_header.read(path), gguf.GGUFReader(path)
    assert {tensor.name for tensor in theirs.tensors} == ours.tensors.keys()
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert (mine.kind, mine.start) == (int(tensor.tensor_type), tensor.data_offset)
        assert mine.shape == tuple(reversed(tensor.shape.tolist()))
    for name, value in ours.fields.items():
        assert theirs.get_field(name).contents() == value


def test_header_as_gguf_reads_it(tmp_path):
    path = write_llama(tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.Q4_0)
    assert_same_header(path)
    assert "tokenizer.ggml.tokens" not in gguf_header.read(path).fields


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", gguf.GGMLQuantizationType.Q8_0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 3000), value=st.integers(0, 255), size=st.integers(0, 4000) | st.none())
@example(place=0, value=0, size=0)
@example(place=11, value=255, size=None)
@example(place=19, value=255, size=None)
def test_whatever_is_damaged_the_error_is_ours(sound, tmp_path, place, value, size):
    data = bytearray(sound.read_bytes()[:size])
    data[place : place + 1] = bytes([value]) if place < len(data) else b""
    (tmp_path / "damaged.gguf").write_bytes(data)
    try:
        found = gguf_file.read_layer(tmp_path / "damaged.gguf", LLAMA, LLAMA.layer)
    except WeightsError as error:
        assert str(tmp_path / "damaged.gguf") in str(error)
    else:
        assert {name: raw.shape for name, raw in found.items()} == {
            name: tuple(tensor.shape) for name, tensor in tiny.tensors(LLAMA).items()
        }


def test_byte_order_and_version_are_looked_at(sound, tmp_path):
    for version in (b"\x00\x00\x00\x03", b"\x01\x00\x00\x00"):
        (tmp_path / "other.gguf").write_bytes(b"GGUF" + version + sound.read_bytes()[8:])
        with pytest.raises(GgufError, match="another byte order"):
            gguf_header.read(tmp_path / "other.gguf")


def test_a_type_that_cannot_be_dequantised(tmp_path, monkeypatch, sound):
    monkeypatch.setattr(gguf.quants, "_type_traits", {})
    with pytest.raises(WeightsError, match=r"Q8_0 is not yet implemented.*Q8_0"):
        gguf_file.read_layer(sound, LLAMA, LLAMA.layer)


@pytest.mark.parametrize("empty", [{"architectures": ()}, {"tensors": {}}])
def test_a_family_that_gguf_does_not_have_is_refused(empty, cache, tmp_path, monkeypatch, sound):
    family = replace(registry.family(LLAMA), **empty)
    monkeypatch.setattr(registry, "family", lambda spec: family)
    with pytest.raises(WeightsError, match=r"'llama' are not read from GGUF; what works: a folder with.*SmolLM2"):
        weights.fetch(LLAMA, source=sound)
