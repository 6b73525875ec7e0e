"""Several runs to one: what is the same counts once, what disagrees is named, and nothing is lost."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import store
from results.merge import merge
from results.record import TrialResult
from tests.results import fake


def runs_of(folder: Path, *parts: list[TrialResult]) -> list[Path]:
    return [fake.write_run(folder / f"run{i}", part) for i, part in enumerate(parts)]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=4))
def test_the_merge_is_the_union_whatever_is_in_which_run(tmp_path_factory, shares):
    folder = tmp_path_factory.mktemp("merge")
    made = fake.records(2)
    runs = runs_of(folder, *([made[i] for i in sorted(share)] for share in shares))
    for order in (runs, runs[::-1]):
        merge([run for run in order if run.exists()], folder / "all")
        found = {record.spec.digest: record for record in store.read(folder / "all")}
        assert found == {made[i].spec.digest: made[i] for i in set().union(*shares)}


def test_previews_come_along_and_the_runs_stay_as_they_are(tmp_path):
    made = fake.records(1)
    runs = runs_of(tmp_path, made[:2], made[1:])
    before = {path: path.read_bytes() for run in runs for path in run.rglob("*") if path.is_file()}
    merge(runs, tmp_path / "all")
    assert {path: path.read_bytes() for run in runs for path in run.rglob("*") if path.is_file()} == before
    for record in made:
        assert (tmp_path / "all" / "previews" / f"{record.spec.key}.npz").is_file()
    assert not list(tmp_path.rglob("*.tmp"))


def test_where_no_file_can_have_two_names_it_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    made = fake.records(1)
    merge(runs_of(tmp_path, made), tmp_path / "all")
    assert store.read(tmp_path / "all") == store.read(tmp_path / "run0")


def test_other_content_is_an_error_that_names_both_files_and_writes_nothing(tmp_path):
    record = fake.records(1)[0]
    other = replace(record, cases=record.cases[:1])
    runs = runs_of(tmp_path, [record], [other])
    with pytest.raises(store.RecordError) as caught:
        merge(runs, tmp_path / "all")
    assert all(str(store.record_path(run, record)) in str(caught.value) for run in runs)
    assert not (tmp_path / "all").exists()


def test_cost_provenance_and_where_weights_were_read_are_no_content(tmp_path):
    record = fake.records(1, fake.REAL_ARMS)[1]
    weights = replace(record.spec.weights, source="elsewhere", licence="unknown")
    again = replace(record, spec=replace(record.spec, weights=weights), cost={}, provenance={"host": "other"})
    merge(runs_of(tmp_path, [record], [again]), tmp_path / "all")
    assert store.read(tmp_path / "all") == [record]


@pytest.mark.parametrize("failure_first", [True, False])
def test_of_a_failed_and_a_complete_record_the_complete_one_counts(tmp_path, failure_first):
    record = fake.records(1)[0]
    parts = [[fake.failure(record.spec, record.task)], [record]]
    merge(runs_of(tmp_path, *parts[:: 1 if failure_first else -1]), tmp_path / "all")
    assert store.read(tmp_path / "all") == [record]


def test_of_two_failures_the_first_counts(tmp_path):
    record = fake.records(1)[0]
    one, two = (fake.failure(record.spec, record.task, error) for error in ("one", "two"))
    merge(runs_of(tmp_path, [one], [two]), tmp_path / "all")
    assert store.read(tmp_path / "all") == [one]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": {"epochs": 9}}, "train.epochs (3, 9)"),
        ({"data_digest": "other"}, "data_digest ('data00', 'other')"),
        ({"block": {"architecture": "other"}}, "block.architecture (None, 'other')"),
    ],
)
def test_trials_that_no_table_could_tell_apart_are_refused(tmp_path, change, words):
    record = fake.records(1)[0]
    other = replace(record, spec=replace(record.spec, **change))
    runs = runs_of(tmp_path, [record], [other])
    with pytest.raises(store.RecordError) as caught:
        merge(runs, tmp_path / "all")
    told = str(caught.value)
    assert words in told and "seed 0, fold 0" in told and "\n" not in told
    assert all(str(run) in told for run in runs) and not (tmp_path / "all").exists()


def test_a_second_layer_is_another_arm_and_its_hash_is_told_where_only_that_differs(tmp_path):
    (made,) = (record for record in fake.records(1, arms=fake.REAL_ARMS) if record.spec.control == "pretrained")
    blocks = ({}, {"second_layer": 3, "second_sha256": "a"}, {"second_layer": 5, "second_sha256": "b"})
    several = [replace(made, spec=replace(made.spec, block=block)) for block in blocks]
    merge(runs_of(tmp_path, *([one] for one in several)), tmp_path / "all")
    assert len(store.read(tmp_path / "all")) == 3
    other = replace(made, spec=replace(made.spec, block={"second_layer": 3, "second_sha256": "c"}))
    with pytest.raises(store.RecordError, match=r"each with another block\.second_sha256 \('a', 'c'\)"):
        merge(runs_of(tmp_path / "others", [several[1]], [other]), tmp_path / "both")


def test_merging_again_brings_what_is_new_and_a_retry(tmp_path):
    made = fake.records(1)
    runs = runs_of(tmp_path, [fake.failure(made[0].spec, made[0].task)], made[1:2])
    merge(runs, tmp_path / "all")
    fake.write_run(runs[0], [made[0], made[2]])
    merge(runs, tmp_path / "all")
    assert len(store.read(tmp_path / "all")) == 3 == len(store.completed(tmp_path / "all"))


def test_variants_of_the_segmenter_are_arms_and_come_together(tmp_path):
    record = fake.records(1)[0]
    other = replace(record, spec=replace(record.spec, model={"attention": "global"}))
    merge(runs_of(tmp_path, [record], [other]), tmp_path / "all")
    assert {one.spec.digest for one in store.read(tmp_path / "all")} == {record.spec.digest, other.spec.digest}
    third = replace(other, spec=replace(other.spec, train={"epochs": 9}))
    with pytest.raises(store.RecordError, match=r"train.epochs \(3, 9\)"):
        merge(runs_of(tmp_path / "more", [record], [third]), tmp_path / "mixed")


@pytest.mark.parametrize("lost", ["not there", "failed there"])
def test_a_record_that_only_the_merged_folder_has_is_never_lost(tmp_path, lost):
    made = fake.records(1)
    (run,) = runs_of(tmp_path, made[:1])
    (into,) = runs_of(tmp_path / "other", made[:2])
    if lost == "failed there":
        fake.write_run(run, [fake.failure(made[1].spec, made[1].task)])
    before = store.read(into)
    with pytest.raises(store.RecordError, match=rf"{made[1].spec.digest}\.json is in none of the runs"):
        merge([run], into)
    assert store.read(into) == before


def test_a_damaged_record_is_named(tmp_path):
    made = fake.records(1)
    runs = runs_of(tmp_path, made[:1], made[1:])
    path = store.record_path(runs[1], made[1])
    path.write_text("{")
    with pytest.raises(store.RecordError, match=path.name):
        merge(runs, tmp_path / "all")
    assert not (tmp_path / "all").exists()
