"""What the tests of weights share: checkpoints as pickles, and that a block computes what its source does."""

from __future__ import annotations

import json

import pytest
import torch

from backbones import controls, registry
from tests.backbones import tiny

every_row = pytest.mark.parametrize("name", tiny.REPRESENTATIVES)


def assert_same_output(row, kept):
    block, expected = controls.build(row, "pretrained", row.layer, kept), tiny.strong_block(row)
    x_BND = torch.randn(1, 5, row.width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x_BND), expected(x_BND))


def write_pickles(folder, row, sharded, seed=0, **options):
    """The row's layer as pytorch_model.bin, or as two of them with an index."""
    prefix = registry.family(row).prefixes[0]
    state = {prefix.format(i=row.layer) + name: tensor for name, tensor in tiny.tensors(row, seed=seed).items()}
    state |= {"lm_head.weight": torch.ones(64), prefix.format(i=0) + "mlp.weight": torch.ones(9)}
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
