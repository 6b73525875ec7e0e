"""The store: atomic, never overwriting, and loud about damage."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import store
from tests.results import fake


@pytest.fixture
def record():
    return fake.complete(fake.spec("Task01_Fake", "smollm2", "pretrained"), fake.task(), (fake.score("p0_a"),))


def test_path_is_the_key_and_content_comes_back(tmp_path, record):
    path = store.write(tmp_path, record)
    assert path == tmp_path / "trials/Task01_Fake/smollm2" / f"0-0-{record.spec.digest}.json"
    assert store.read(tmp_path) == [record]


def test_heads_are_the_records_without_their_cases(tmp_path):
    made = [*fake.records(2), fake.failure(fake.spec("Task09_Fake"), fake.task("Task09_Fake"))]
    fake.write_run(tmp_path, made, previews=False)
    assert list(store.heads(tmp_path)) == [replace(record, cases=()) for record in store.read(tmp_path)]


def test_a_head_is_read_without_its_cases_and_in_any_form(tmp_path, record):
    path = store.write(tmp_path, record)
    text = path.read_text()
    path.write_text(text.replace('"tp": 50', '"tp": many'))  # no JSON, but nobody looks there
    assert store.read_head(path) == replace(record, cases=())
    path.write_text(json.dumps(json.loads(text), indent=4))
    assert store.read_head(path) == replace(record, cases=())
    long = replace(record, curve=tuple({"step": n, "loss": 1.0, "dice": None} for n in range(2000)))
    path.write_text(long.to_json())
    assert store.read_head(path) == replace(long, cases=())


def test_an_empty_run_has_nothing(tmp_path):
    assert store.read(tmp_path / "absent") == [] and store.completed(tmp_path) == set()


def test_same_content_with_other_times_is_left_alone(tmp_path, record):
    path = store.write(tmp_path, record)
    before = path.read_bytes()
    again = replace(record, cost=record.cost | {"train_seconds": 99.0}, provenance={"started": "later"})
    assert store.write(tmp_path, again) == path
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["other scores", "a failure"])
def test_a_complete_record_is_never_overwritten(tmp_path, record, change):
    path = store.write(tmp_path, record)
    before = path.read_bytes()
    other = replace(record, cases=()) if change == "other scores" else fake.failure(record.spec, record.task)
    with pytest.raises(store.RecordError, match=path.name):
        store.write(tmp_path, other)
    assert path.read_bytes() == before


def test_a_failed_record_gives_way(tmp_path, record):
    failure = fake.failure(record.spec, record.task)
    store.write(tmp_path, failure)
    assert store.completed(tmp_path) == set() and store.failed(tmp_path) == [failure]
    store.write(tmp_path, record)
    assert store.completed(tmp_path) == {record.spec.digest} and store.failed(tmp_path) == []


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_an_interrupted_write_leaves_nothing(tmp_path, record, monkeypatch, call):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space"):
        store.write(tmp_path, record)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_bytes_are_complete_before_they_have_the_name(tmp_path, record, monkeypatch):
    seen = []
    replace_ = os.replace

    def spy(source, target):
        seen.append((source.parent == target.parent, source.read_text() == record.to_json(), target.exists()))
        replace_(source, target)

    monkeypatch.setattr(os, "replace", spy)
    store.write(tmp_path, record)
    assert seen == [(True, True, False)]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"schema": 99}', "tampered", "cut"])
def test_a_damaged_record_is_named(tmp_path, record, damage):
    path = store.write(tmp_path, record)
    text = path.read_text()
    damages = {"tampered": text.replace('"seed": 0', '"seed": 1').encode(), "cut": text[: len(text) // 2].encode()}
    path.write_bytes(damages[damage] if isinstance(damage, str) else damage)
    for call in (store.read, store.completed, store.failed):
        with pytest.raises(store.RecordError, match=path.name):
            call(tmp_path)
    with pytest.raises(store.RecordError, match=path.name):
        store.write(tmp_path, record)


def test_an_older_record_says_what_it_lacks(tmp_path, record):
    path = store.write(tmp_path, record)
    path.write_text(path.read_text().replace('"schema": 3', '"schema": 2'))
    with pytest.raises(store.RecordError, match=r"schema 2, which has no surface distances.*runs its trial again"):
        store.read(tmp_path)


def test_an_undefined_distance_is_null_and_comes_back_as_none(tmp_path, record):
    empty = replace(record, cases=(fake.score("p0_a", tp=0, fp=0, fn=0), fake.score("p1_a", tp=0)))
    assert '"hd95": null' in empty.to_json()
    store.write(tmp_path, empty)
    both_empty, missed = store.read(tmp_path)[0].cases
    assert (both_empty.nsd, both_empty.hd95, missed.nsd) == (None, None, 0.0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(record, cases=(replace(both_empty, hd95=float("nan")),)).to_json()


def test_a_copy_elsewhere_is_refused(tmp_path, record):
    path = store.write(tmp_path, record)
    copy = path.with_name("copy.json")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(store.RecordError, match=r"copy\.json"):
        store.read(tmp_path)


HOSTILE = st.one_of(
    st.sampled_from(["..", ".", "", "/etc/out", "../../out", "a/../../..", "a\0b"]),
    st.lists(st.sampled_from(["..", "a", "", "."]), min_size=2).map("/".join),
    st.text(),
)


@given(task=HOSTILE, backbone=HOSTILE, seed=st.one_of(st.integers(), HOSTILE))
def test_a_name_never_leads_out_of_the_run(task, backbone, seed):
    """Whatever a record or a plan holds: its key is three names below one another, or there is no such trial."""
    try:
        spec = fake.spec(task, backbone, seed=seed)
    except ValueError as error:
        assert "leads out" in str(error) or "whole numbers" in str(error)
        return
    assert os.path.normpath(spec.key) == spec.key and spec.key.count("/") == 2
    assert store.record_path(Path("/run"), fake.failure(spec, fake.task())).resolve().is_relative_to("/run/trials")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 1), st.sampled_from([{}, {"seed": 3}])), max_size=6))
def test_heads_of_records_that_differ_in_little_are_those_of_the_whole_records(seeds):
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for seed, fold, train in seeds:
            spec = fake.spec(seed=seed, fold=fold, train=train)
            record = (
                fake.complete(spec, fake.task(), (fake.score("c"),)) if seed % 2 else fake.failure(spec, fake.task())
            )
            store.write(run, record)
        assert list(store.heads(run)) == [replace(record, cases=()) for record in store.read(run)]


@pytest.mark.parametrize(
    "change", [('"seed": 2', '"seed": 3'), ('"fold": 0', '"fold": 1'), ('"seed": 2', '"seed": "2"')]
)
def test_a_specification_that_was_changed_is_seen_among_others_like_it(tmp_path, change):
    for seed in (1, 2):
        path = store.write(tmp_path, fake.complete(fake.spec(seed=seed), fake.task(), (fake.score("c"),)))
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(store.RecordError, match=path.name):
        list(store.heads(tmp_path))
