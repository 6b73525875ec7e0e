"""One layer from a hub on 127.0.0.1: the bytes that it costs, and every way in which a hub can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from backbones import hub_client, ranges, weights
from tests.backbones import tiny
from tests.backbones.checkpoint_room import assert_same_output, write_pickles
from tests.backbones.hub_server import COMMIT, HubServer

ROW = tiny.spec("llama3")


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    folder = tiny.write_checkpoint(tmp_path / "served", ROW)
    monkeypatch.setattr(ranges, "PAUSE", 0.001)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HubServer(folder, ROW.repo) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def layer_bytes() -> int:
    return sum(4 * tensor.numel() for tensor in tiny.tensors(ROW).values())


def asked_ranges(hub: HubServer) -> list[str]:
    return [request.range for request in hub.requests if request.range]


def leftovers(cache: Path) -> list[Path]:
    return [path for path in (cache / "blocks").rglob("*") if path.suffix not in (".safetensors", ".lock")]


def test_one_layer_by_ranges_at_one_commit(hub, cache):
    kept = weights.fetch(ROW)
    assert_same_output(ROW, kept)
    assert (kept.source, kept.repo, kept.commit) == (f"tiny/llama3@{COMMIT}", "tiny/llama3", COMMIT)
    assert weights.find(ROW, ROW.layer) == kept
    # Of each of the two shards: the length of its header, its header, and the one run of the layer's tensors.
    assert len(asked_ranges(hub)) == 6
    small = sum(path.stat().st_size for name, path in hub.files().items() if not name.endswith(hub.large))
    assert hub.sent <= layer_bytes() + small + 2 * 2000
    assert leftovers(cache) == []


def test_the_token_is_for_the_hub_alone(hub):
    weights.fetch(ROW)
    tokens = {server: {r.token for r in hub.requests if r.server == server} for server in ("hub", "storage")}
    assert tokens == {"hub": {"Bearer hf_secret"}, "storage": {None}}


def test_only_the_layers_bytes_are_sent(hub):
    (hub.folder / "model.safetensors.index.json").unlink()
    state = tiny.reference_model(ROW).state_dict()
    save_file(state, hub.folder / "model.safetensors")
    kept = weights.fetch(ROW, source="tiny/llama3")
    assert_same_output(ROW, kept)
    assert hub.sent < 0.2 * (hub.folder / "model.safetensors").stat().st_size


def test_progress_is_counted_in_bytes(hub):
    seen: list[tuple[int, int]] = []
    hub.faults.drops = 1
    weights.fetch(ROW, on_bytes=lambda done, total: seen.append((done, total)))
    done = [pair[0] for pair in seen]
    assert done == sorted(done)
    assert seen[-1] == (layer_bytes(), layer_bytes())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"refused \(401\).*licence at https://huggingface.co/tiny/llama3.*HF_TOKEN.*--weights llama3=PATH"),
        (403, r"refused \(403\).*HF_TOKEN.*HF_ENDPOINT"),
        (404, r"no such repository.*404.*--weights llama3=PATH"),
        (418, "answered 418"),
    ],
)
def test_refusals(hub, status, words):
    hub.faults.statuses = [(status, {})] * 3
    with pytest.raises(weights.WeightsError, match=words):
        weights.fetch(ROW, source="hub")
    assert len(hub.requests) == 1


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_another", 403), ("hf_secret", 200)])
def test_gated(hub, monkeypatch, token, status):
    hub.faults.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", token or "")
    if status == 200:
        return assert_same_output(ROW, weights.fetch(ROW))
    with pytest.raises(weights.WeightsError, match=rf"refused \({status}\).*accept the licence"):
        weights.fetch(ROW)


def test_an_unknown_revision_and_an_unknown_repository(hub):
    from dataclasses import replace

    with pytest.raises(weights.WeightsMissing, match="no revision 'v9' of it"):
        weights.fetch(replace(ROW, revision="v9"))
    with pytest.raises(weights.WeightsMissing, match="tiny/other: no such repository"):
        weights.fetch(ROW, source="tiny/other")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(hub, status):
    lines: list[str] = []
    hub.faults.statuses = [(status, {"Retry-After": "0"})] * 3
    assert_same_output(ROW, weights.fetch(ROW, progress=lines.append))
    assert sum(f"the server answered {status}; try" in line for line in lines) == 3


def test_a_server_that_stays_busy_or_wants_a_long_pause(hub):
    hub.faults.statuses = [(500, {})] * ranges.TRIES
    with pytest.raises(weights.Interrupted, match=r"answered 500.*try again later.*--weights llama3=PATH"):
        weights.fetch(ROW)
    assert len(hub.requests) == ranges.TRIES
    hub.faults.statuses = [(429, {"Retry-After": "3600"})]
    with pytest.raises(weights.Interrupted, match="answered 429 and asks to wait for 3600 s"):
        weights.fetch(ROW)


def test_no_network(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(weights.WeightsMissing, match="cannot be reached"):
        weights.fetch(ROW)


def test_a_broken_connection_goes_on_from_where_it_was(hub):
    hub.faults.drops = 8
    assert_same_output(ROW, weights.fetch(ROW))
    assert hub.faults.drops == 0
    small = sum(path.stat().st_size for name, path in hub.files().items() if not name.endswith(hub.large))
    assert hub.sent <= layer_bytes() + small + 2 * 2000


def test_a_connection_that_falls_silent_is_given_up(hub, monkeypatch):
    monkeypatch.setattr(hub_client, "TIMEOUT", 0.2)
    hub.faults.stalls = 1
    lines: list[str] = []
    assert_same_output(ROW, weights.fetch(ROW, progress=lines.append))
    assert any("timed out" in line for line in lines)


def test_what_has_come_is_used_by_the_next_fetch(hub, cache):
    def first(done: int, total: int) -> None:
        if done:  # the layer itself has begun to come
            hub.faults.statuses = [(503, {})] * 99

    with pytest.raises(weights.Interrupted, match="what has come is kept"):
        weights.fetch(ROW, on_bytes=first)
    before, done = hub.sent, len(asked_ranges(hub))
    hub.faults.statuses = []
    assert_same_output(ROW, weights.fetch(ROW))
    assert 0 < hub.sent - before < layer_bytes()
    assert "bytes=0-7" not in asked_ranges(hub)[done:]
    assert leftovers(cache) == []


def test_parts_of_another_commit_are_not_used(hub):
    with pytest.raises(weights.Interrupted):
        weights.fetch(ROW, on_bytes=lambda done, total: done and hub.faults.statuses.extend([(503, {})] * 99))
    hub.faults.statuses = []
    other = {f"layers.31.{name}": tensor for name, tensor in tiny.tensors(ROW, seed=5).items()}
    for shard in ("b.safetensors", "c.safetensors"):
        part = sorted(other)[::2] if shard[0] == "b" else sorted(other)[1::2]
        save_file({name: other[name] for name in part}, hub.folder / shard)
    hub.commit = 40 * "d"
    found = weights.load(ROW, weights.fetch(ROW))
    assert all(torch.equal(tensor, tiny.tensors(ROW, seed=5)[name]) for name, tensor in found.items())


def test_an_expired_address_is_asked_for_again(hub):
    hub.faults.expired = 3
    assert_same_output(ROW, weights.fetch(ROW))
    hub.faults.expired = -1
    with pytest.raises(weights.Interrupted, match=r"answered 403, perhaps as the signed address has expired"):
        weights.fetch(ROW, source="tiny/llama3", apart=True)


def test_an_answer_for_other_bytes_is_refused(hub, cache):
    hub.faults.shifted = True
    with pytest.raises(weights.WeightsError, match=r"bytes 1-7/\d+' when bytes 0-7 of"):
        weights.fetch(ROW)
    assert leftovers(cache) == []


def test_a_compressed_answer_is_refused(hub):
    hub.faults.compressed = True
    with pytest.raises(weights.WeightsError, match="compressed, though told not to"):
        weights.fetch(ROW)


def test_a_repository_that_changes_while_it_is_read(hub):
    hub.faults.moves = True
    with pytest.raises(weights.WeightsError, match="while it was read; try again"):
        weights.fetch(ROW)


@pytest.mark.parametrize("drops", [0, 2])
def test_without_ranges_whole_shards_are_downloaded_and_it_is_said(hub, cache, drops):
    hub.faults.ranges, hub.faults.drops = False, 0
    lines: list[str] = []
    hub.faults.drops = drops
    assert_same_output(ROW, weights.fetch(ROW, progress=lines.append))
    assert sum("sends no byte ranges; downloading all of" in line for line in lines) == 2
    assert leftovers(cache) == []


def test_without_ranges_a_connection_that_always_breaks_comes_to_an_end(hub):
    hub.faults.ranges = False
    with pytest.raises(weights.Interrupted, match=r"broke off|cannot be reached"):
        weights.fetch(ROW, on_bytes=lambda done, total: setattr(hub.faults, "drops", -1))


def test_a_whole_file_with_another_hash_is_refused(hub, cache):
    hub.faults.ranges, hub.faults.tag = False, 64 * "e"
    with pytest.raises(weights.WeightsError, match=r"has sha256 .* but the hub announces eeeeeeeeeeee; damaged"):
        weights.fetch(ROW)
    assert leftovers(cache) == []
    assert weights.find(ROW, ROW.layer) is None


@pytest.mark.parametrize("sharded", [False, True])
def test_pickles_are_downloaded_whole_and_safetensors_come_first(hub, cache, sharded):
    write_pickles(hub.folder, ROW, sharded, seed=5)
    assert_same_output(ROW, weights.fetch(ROW))
    (hub.folder / "model.safetensors.index.json").unlink()
    lines: list[str] = []
    found = weights.load(ROW, weights.fetch(ROW, source="hub", apart=True, progress=lines.append))
    assert all(torch.equal(tensor, tiny.tensors(ROW, seed=5)[name]) for name, tensor in found.items())
    assert any("downloading all of pytorch_model" in line for line in lines)
    assert leftovers(cache) == []


def test_a_given_repository_is_read_again_only_when_it_has_changed(hub, monkeypatch):
    kept = weights.fetch(ROW, source=ROW.repo, apart=True)
    before = len(hub.requests)
    assert weights.fetch(ROW, source=ROW.repo, apart=True) == kept
    assert len(hub.requests) == before + 1
    hub.commit = 40 * "d"
    assert weights.fetch(ROW, source=ROW.repo, apart=True).commit == 40 * "d"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert weights.fetch(ROW, source=ROW.repo, apart=True).commit == 40 * "d"
    with pytest.raises(weights.Interrupted):
        weights.fetch(ROW, source="tiny/other", apart=True)


def test_another_model_is_found_before_its_bytes_come(hub):
    from dataclasses import replace

    (hub.folder / "config.json").unlink()
    with pytest.raises(weights.WeightsError, match="has shape"):
        weights.fetch(replace(ROW, config=ROW.config | {"intermediate_size": 232}))
    assert hub.sent < layer_bytes() / 2


def test_whatever_goes_wrong_in_between_the_block_is_the_same(hub, cache):
    expected = weights.fetch(ROW).sha256

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        drops=st.integers(0, 6),
        expired=st.integers(0, 2),
        statuses=st.lists(st.sampled_from([429, 500, 502, 503, 504]), max_size=2),
        whole=st.booleans(),
    )
    def check(drops, expired, statuses, whole):
        hub.faults.drops, hub.faults.expired, hub.faults.ranges = drops % (3 if whole else 7), expired, not whole
        hub.faults.statuses = [(status, {}) for status in statuses]
        (cache / "blocks" / "llama3-31.safetensors").unlink()
        assert weights.fetch(ROW).sha256 == expected
        assert leftovers(cache) == []

    check()
