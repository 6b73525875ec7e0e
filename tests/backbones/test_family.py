"""What a family says of checkpoints, configurations and GGUF files, held against transformers."""

from __future__ import annotations

import copy
from functools import cache

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

import backbones
from backbones import architecture, registry
from backbones.errors import WeightsError
from backbones.family import DECISIVE
from tests.backbones import tiny

every_family = pytest.mark.parametrize("name", tiny.REPRESENTATIVES)


LAYER = 1


@cache
def whole_model(name: str) -> torch.nn.Module:
    """A tiny language model of two layers, with its head, on the meta device."""
    config = architecture.configuration(tiny.spec(name))
    config.num_hidden_layers = LAYER + 1
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: LAYER + 1]
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@every_family
def test_first_or_second_prefix_finds_the_layer_and_nothing_else(name):
    row, family = tiny.spec(name), registry.family(backbones.get(name))
    model = whole_model(name)
    for state in (model.state_dict(), model.base_model.state_dict()):
        found = [
            {family.own_name(entry.removeprefix(prefix)) for entry in state if entry.startswith(prefix)}
            for prefix in (pattern.format(i=LAYER) for pattern in family.prefixes)
        ]
        assert next(names for names in found if names) == set(architecture.shapes(row, LAYER))


@pytest.mark.parametrize(
    ("family", "entry", "own"),
    [
        ("bert", "attention.output.LayerNorm.gamma", "attention.output.LayerNorm.weight"),
        ("bert", "output.LayerNorm.beta", "output.LayerNorm.bias"),
        ("bert", "output.dense.bias", "output.dense.bias"),
        ("gpt_neox", "attention.masked_bias", None),
        ("gpt_neox", "attention.bias", None),
        ("gpt_neox", "attention.dense.bias", "attention.dense.bias"),
        ("gpt_neox", "attention.rotary_emb.inv_freq", None),
        ("gpt2", "attn.bias", None),
        ("llama", "self_attn.rotary_emb.inv_freq", None),
    ],
)
def test_old_names_and_what_is_no_weight(family, entry, own):
    row = next(row for row in map(backbones.get, backbones.names()) if row.family == family)
    assert registry.family(row).own_name(entry) == own


@pytest.mark.parametrize("name", tiny.IN_GGUF)
def test_gguf_names_and_layout_are_those_of_transformers(name):
    row, model = tiny.spec(name), whole_model(name)
    family = registry.family(row)
    shape = family.shape(row.config)
    architecture_name = family.architectures[0]
    processor = TENSOR_PROCESSORS.get(architecture_name, TensorProcessor)(config=model.config.to_dict())
    names = get_gguf_hf_weights_map(model, processor, architecture_name)
    for own, size in architecture.shapes(row, LAYER).items():
        stored = f"blk.{LAYER}.{family.tensors[own]}"
        assert names[stored].endswith(f".{LAYER}.{own}")
        in_the_file = np.random.default_rng(0).normal(size=size).astype("f4")
        in_the_file = tiny.CONVERTERS[family.from_gguf](own, in_the_file, shape)
        expected = processor.process(weights=in_the_file, name=stored).weights
        assert np.array_equal(family.from_gguf(own, in_the_file, shape), expected), own


def test_families_are_read_from_gguf_where_transformers_reads_them():
    supported = {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2", "falcon"}
    families = [registry.family(row) for row in map(backbones.get, tiny.REPRESENTATIVES)]
    assert {name for family in families for name in family.architectures} == supported
    assert supported - {"mistral"} <= set(gguf.MODEL_ARCH_NAMES.values())
    assert all(bool(family.architectures) == bool(family.tensors) for family in families)


def another(value: object) -> object:
    """A value that a configuration may have in this one's place."""
    match value:
        case bool():
            return not value
        case int():
            return value * 2
        case float():
            return value * 1.5
        case "silu" | "relu" | "gelu" | "gelu_new" | "gelu_pytorch_tanh":
            return "tanh"
        case dict():
            changed = copy.deepcopy(value)
            inner = next(iter(value.values()))
            (changed[next(iter(value))] if isinstance(inner, dict) else changed)["rope_theta"] = 123.0
            return changed
    raise AssertionError(value)


@every_family
def test_config_must_agree_in_all_that_decides(name):
    row = backbones.get(name)
    settings = architecture.configuration(row).to_dict()
    architecture.check_config(row, settings, "here")
    decisive = [key for key in DECISIVE if settings.get(key) is not None and key != "layer_types"]
    assert len(decisive) >= 4
    for key in decisive:
        with pytest.raises(WeightsError, match=r"here: (not a configuration|\w+ is)"):
            architecture.check_config(row, settings | {key: another(settings[key])}, "here")


@pytest.mark.parametrize(
    ("name", "old", "wrong"),
    [
        ("pythia-70m", {"rotary_pct": 0.25, "rotary_emb_base": 10000}, {"rotary_pct": 1.0}),
        ("qwen2.5-0.5b", {"rope_theta": 1000000.0, "rope_scaling": None}, {"rope_theta": 10000.0}),
        ("phi3-mini", {"rope_theta": 10000.0, "rope_scaling": None}, {"rope_theta": 20000.0}),
        ("falcon-7b", {"num_kv_heads": 71}, {"multi_query": False}),
        ("opt-350m", {"do_layer_norm_before": False, "word_embed_proj_dim": 512}, {"do_layer_norm_before": True}),
        ("gemma3-4b", {"rope_theta": 1e6, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}, {"rope_theta": 1e4}),
    ],
)
def test_configs_of_older_versions_are_understood(name, old, wrong):
    row = backbones.get(name)
    settings = {key: value for key, value in row.config.items() if key != "rope_parameters"}
    settings["model_type"] = architecture.configuration(row).model_type
    architecture.check_config(row, settings | old, "here")
    with pytest.raises(WeightsError, match="this is another model"):
        architecture.check_config(row, settings | old | wrong, "here")


@every_family
def test_configuration_leaves_the_row_as_it_is(name):
    row = backbones.get(name)
    before = copy.deepcopy(dict(row.config))
    architecture.empty_layer(row, row.layer)
    assert row.config == before
