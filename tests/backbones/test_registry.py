"""Names, rows, and what may not be imported for them."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import backbones
from backbones import architecture, controls, registry
from backbones.family import DECISIVE


def test_unknown_name_names_the_nearest():
    with pytest.raises(backbones.UnknownBackbone) as caught:
        backbones.get("lama3")
    everything = ", ".join(backbones.names())
    assert str(caught.value) == f"unknown backbone 'lama3'; did you mean 'llama3'? available: {everything}"
    with pytest.raises(backbones.UnknownBackbone, match="unknown backbone 'xyzzy'; available: bert-base"):
        backbones.get("xyzzy")


@pytest.mark.parametrize("name", backbones.names())
def test_rows_agree_with_themselves(name):
    row = backbones.get(name)
    shape = registry.family(row).shape(row.config)
    assert (row.name, row.width, row.layer) == (name, shape.width, row.layers - 1)
    assert row.config.get("num_hidden_layers", row.config.get("n_layer")) == row.layers
    assert row.licence
    assert row.citation
    assert row.source


@pytest.mark.parametrize("name", backbones.names())
def test_stand_in_is_tiny_and_keeps_the_ratios(name):
    row = backbones.get(name)
    small = controls.stand_in(row)
    shape, full = (registry.family(row).shape(each.config) for each in (small, row))
    assert 64 <= small.width <= 96
    assert shape.heads // shape.kv_heads == min(full.heads // full.kv_heads, 8)
    assert shape.heads * shape.head_dim * full.width == full.heads * full.head_dim * shape.width
    assert abs(shape.ffn / shape.width - full.ffn / full.width) < 0.2
    assert (small.name, small.layer, small.package, small.repo) == (name, row.layer, None, "")


@pytest.mark.parametrize("name", ["bert-base", "biogpt", "falcon-7b", "gpt2", "opt-125m", "phi3-mini"])
def test_defaults_of_transformers_are_those_of_the_rows(name):
    """These models gave their configuration class its defaults."""
    row = backbones.get(name)
    ours = architecture.configuration(row)
    defaults = type(ours)()
    known = {key: getattr(ours, key) for key in DECISIVE if hasattr(ours, key)}
    assert known == {key: getattr(defaults, key) for key in known}
    assert len(known) > 4


def test_sizes_of_mistral_are_the_defaults_of_transformers():
    from transformers import MistralConfig

    row, defaults = backbones.get("mistral").config, MistralConfig()
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"):
        assert row[key] == getattr(defaults, key)  # v0.1 and v0.3 differ in vocabulary, window and rotary base


def test_listing_imports_nothing_heavy():
    code = (
        "import sys, backbones, backbones.weights as w\n"
        "rows = [backbones.get(n) for n in backbones.names()]\n"
        "[(backbones.block_parameters(r), backbones.stand_in(r), w.find(r, r.layer)) for r in rows]\n"
        "print([m for m in ('torch', 'transformers', 'numpy', 'gguf', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_that_lead_elsewhere_and_double_names_are_refused(monkeypatch):
    module = importlib.import_module("backbones.gpt2")
    for rows, words in (
        ((module.ROWS[0].__class__("../x", "gpt2", "a/b", 8, 1, 0, "MIT"),), "does not match"),
        (module.ROWS * 2, "taken already"),
    ):
        monkeypatch.setattr(module, "ROWS", rows)
        registry._catalogue.cache_clear()
        with pytest.raises(ValueError, match=words):
            backbones.names()
    monkeypatch.undo()
    registry._catalogue.cache_clear()
    assert "gpt2" in backbones.names()
