"""What `--backbones` takes: names, layers, folders, GGUF files, repositories, and packages of third parties."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backbones
from backbones import registry, weights
from backbones.errors import UnknownBackbone
from backbones.request import Request, parse, resolve
from tests.backbones import tiny


def test_commas_stand_between_backbones_and_between_layers():
    texts = ("llama3@8,16,31", "gpt2", "a/b@3", "./folder,mistral")
    assert parse(texts) == [
        Request("llama3", (8, 16, 31)),
        Request("gpt2"),
        Request("a/b", (3,)),
        Request("./folder"),
        Request("mistral"),
    ]


@given(st.dictionaries(st.sampled_from(["llama3", "gpt2", "a/b", "x.gguf"]), st.sets(st.integers(0, 99)), min_size=1))
def test_a_request_is_read_as_it_is_written(wanted):
    requests = [Request(what, tuple(sorted(layers))) for what, layers in wanted.items()]
    assert parse([",".join(request.text for request in requests)]) == requests
    assert parse([request.text for request in requests] * 2) == requests


def test_a_name_alone_and_with_layers_are_both_meant():
    (request,) = parse(["llama3", "llama3@8"])
    assert request == Request("llama3", (8,), own=True) == parse([request.text])[0]
    assert resolve(request).layers == (8, 31)


def test_a_folder_with_an_at_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x@3").mkdir()
    assert parse(["./x@3", "./x@3@1"]) == [Request("./x@3", (1,), own=True)]


@pytest.mark.parametrize("name", ["none", "hub", "random"])
def test_a_folder_does_not_take_a_word_with_another_meaning(tmp_path, name):
    folder = tiny.write_checkpoint(tmp_path / name, tiny.spec("gpt2"))
    assert resolve(Request(str(folder))).spec.name == f"{name}-given"


@pytest.mark.parametrize("text", ["8", "gpt2,8", "8,gpt2@3"])
def test_a_layer_of_nothing_is_refused(text):
    with pytest.raises(UnknownBackbone, match=r"'8' is a layer of nothing.*NAME@8,8"):
        parse([text])


def test_a_registry_name_with_layers():
    found = resolve(Request("llama3", (8, 16)))
    assert (found.layers, found.source, found.spec.layer) == ((8, 16), None, 31)
    assert resolve(Request("llama3")).layers == (31,)
    with pytest.raises(UnknownBackbone, match=r"llama3@99: 'llama3' has layers 0 to 31, not 99"):
        resolve(Request("llama3", (99,)))


@pytest.mark.parametrize("what", ["./no/such/folder", "gone.gguf", "/no/such"])
def test_a_path_that_is_not_there_is_no_registry_name(what):
    with pytest.raises(weights.WeightsMissing, match=r"no such folder or file; what works: a name from"):
        resolve(Request(what))


@pytest.mark.parametrize("name", ["llama3", "gpt2", "gemma3-270m", "mistral"])
def test_a_checkpoint_folder_is_a_backbone_of_its_own(name, tmp_path, cache):
    row = tiny.spec(name)
    folder = tiny.write_checkpoint(tmp_path / "My Model", row, layer=2)
    found = resolve(Request(str(folder), (2,)))
    assert (found.spec.name, found.spec.family, found.spec.width) == ("my-model", row.family, row.width)
    assert found.source == str(folder) and found.spec.layers == row.layers
    kept = weights.fetch(found.spec, 2, found.source, apart=True)
    assert weights.load(found.spec, kept).keys() == tiny.tensors(row).keys()


def test_a_gguf_file_is_a_backbone_of_its_own(tmp_path, cache):
    row = tiny.spec("llama3")
    path = tiny.write_gguf(tmp_path / "Tiny.Q8.gguf", row)
    found = resolve(Request(str(path)))
    assert (found.spec.name, found.spec.family, found.spec.width) == ("tiny.q8", "llama", row.width)
    kept = weights.fetch(found.spec, found.layers[0], found.source, apart=True)
    assert weights.load(found.spec, kept).keys() == tiny.tensors(row).keys()


def test_a_folder_does_not_take_a_name_of_the_registry(tmp_path):
    folder = tiny.write_checkpoint(tmp_path / "gpt2", tiny.spec("gpt2"))
    assert resolve(Request(str(folder))).spec.name == "gpt2-given"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "has no config.json"),
        ({"model_type": "t5"}, "model_type is 't5'; what can be plugged in: .*llama"),
        ({}, "model_type is None"),
        ({"model_type": "llama", "hidden_size": "wide"}, "its configuration cannot be read"),
    ],
)
def test_a_folder_that_is_no_llm(config, words, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(weights.WeightsError, match=words):
        resolve(Request(str(tmp_path)))


ROW = """
from backbones.spec import BackboneSpec

ROWS = (
    BackboneSpec(
        name={name!r}, family={family!r}, repo="someone/model", width=64, layers=2, layer=1, licence="MIT",
        config={{"n_embd": 64, "n_layer": 2, "n_head": 4}},
    ),
)
"""


def plug_in(folder: Path, source: str) -> Path:
    """A package as pip installs it: one module, and the metadata that name it."""
    (folder / "their_block.py").write_text(source)
    info = folder / "their_block-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-block\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.backbones]\ntheirs = their_block\n")
    return folder


@pytest.fixture
def afresh(monkeypatch):
    """The registry reads what is installed once a process: forget it before and after."""
    registry._catalogue.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    sys.modules.pop("their_block", None)
    registry._catalogue.cache_clear()


def test_a_package_adds_a_backbone(tmp_path, afresh):
    afresh.syspath_prepend(plug_in(tmp_path, ROW.format(name="theirs", family="gpt2")))
    assert "theirs" in backbones.names()
    assert backbones.block_parameters(backbones.get("theirs")) == backbones.block_parameters(
        replace(backbones.get("gpt2"), config={"n_embd": 64, "n_layer": 2, "n_head": 4})
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import not_there_at_all", r"'theirs' of their-block .*cannot be imported \(ModuleNotFoundError"),
        (ROW.format(name="gpt2", family="gpt2"), "the backbone name 'gpt2' is taken already"),
        (ROW.format(name="../up", family="gpt2"), "'../up' does not match"),
        (ROW.format(name="none", family="gpt2"), "'none' .* has a meaning"),
        (ROW.format(name="theirs", family="mamba"), "unknown family 'mamba'"),
    ],
)
def test_a_package_that_does_not_fit_is_named(tmp_path, afresh, source, words):
    afresh.syspath_prepend(plug_in(tmp_path, source))
    with pytest.raises(ValueError, match=words):
        backbones.names()


def test_a_package_that_does_not_fit_ends_a_command_in_one_line(tmp_path):
    plug_in(tmp_path, "import not_there_at_all")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "list", "backbones"],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": f"{tmp_path}:."},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("error: entry point 'theirs' of their-block")
