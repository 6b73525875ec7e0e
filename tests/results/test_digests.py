"""A trial's digest, however it was computed, is the hash of its canonical JSON; and trials are put into arms alike."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

from hypothesis import given
from hypothesis import strategies as st

from results import store
from results.arms import arm_key, arm_names, titles, variants, with_arms
from results.record import TrialSpec, Weights
from tests.results import fake

TEXT = st.text(max_size=12) | st.sampled_from(['","seed":1,"', "ü\n", "\\", '"'])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
GROUPS = st.dictionaries(st.sampled_from(["seed", "width", "causal", "depth", "ä"]) | TEXT, VALUES, max_size=4)
SPECS = st.builds(
    TrialSpec,
    task=st.sampled_from(["Task01_Fake", "Tâche", '"seed":0']),
    backbone=st.sampled_from(["smol", "zebra", '","seed":1,"']),
    control=st.sampled_from(["none", "pretrained", "random"]),
    layer=st.none() | st.integers(0, 40),
    weights=st.builds(Weights, kind=TEXT, source=TEXT, sha256=TEXT, licence=TEXT),
    seed=st.integers(-5, 10**12) | st.booleans(),
    fold=st.integers(0, 4),
    fraction=st.sampled_from([1.0, 0.1, 1]),
    split_digest=TEXT,
    data_digest=TEXT,
    train=GROUPS,
    model=GROUPS,
    data=GROUPS,
    block=GROUPS,
)


def by_definition(spec: TrialSpec) -> str:
    values = asdict(spec) | {"weights": [spec.weights.kind, spec.weights.sha256]}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@given(SPECS, st.integers(-5, 10**12) | st.booleans())
def test_a_digest_is_the_hash_of_the_canonical_json(spec, seed):
    other = spec.with_seed(seed)
    assert other == replace(spec, seed=seed) and type(other.seed) is type(seed)
    assert (spec.digest, other.digest) == (by_definition(spec), by_definition(other))
    assert asdict(other) == asdict(replace(spec, seed=seed)), "nothing of how the digest came about is stored"
    assert replace(other, fold=spec.fold + 1).digest == by_definition(replace(other, fold=spec.fold + 1))


def test_a_digest_stays_what_it_was():
    spec = TrialSpec(
        "Task01_Fake", "smol", "random", 3, Weights("random"), 7, 2, 0.1, "split", "data",
        train={"lr": 1e-3}, model={"image": [16, 16, 16]}, data={"mirror": ""}, block={"causal": False}, method=4,
    )  # fmt: skip
    assert spec.digest == spec.with_seed(1).with_seed(7).digest == "e55355c35dd7"


@given(st.lists(SPECS, max_size=4), st.data())
def test_trials_that_share_their_settings_are_put_into_the_same_arms(specs, data):
    shared = [spec.with_seed(seed) for spec in specs for seed in data.draw(st.lists(st.integers(0, 9), max_size=3))]
    every = [*specs, *shared, *(replace(spec, model=dict(spec.model)) for spec in specs)]
    assert with_arms(iter(every)) == [(spec, arm_key(spec)) for spec in every]
    assert list(arm_names(every)) == list(dict.fromkeys(map(arm_key, every)))
    told = variants(every)
    named = {one.digest: ", ".join(filter(None, (one.title, told[arm_key(one)]))) for one in every}
    assert titles(every) == named


def test_keys_are_those_of_every_record_file_sorted_as_paths_are(tmp_path):
    names = ["T/a/0-0-x.json", "T/a+b/0-0-x.json", "T/a/1-0-x.json", "T/a/.d.tmp", "T/a.json", "U/z/q/deep.json", "T/t"]
    for name in names:
        path = tmp_path / "trials" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    found = [path.relative_to(tmp_path / "trials") for path in sorted((tmp_path / "trials").rglob("*.json"))]
    assert list(store.keys(tmp_path)) == [path.with_suffix("").as_posix() for path in found] and len(found) == 5
    assert list(store.keys(tmp_path / "nowhere")) == []


def test_keys_of_records_that_were_written(tmp_path):
    record = fake.complete(fake.spec(), fake.task(), (fake.score("c"),))
    store.write(tmp_path, record)
    assert list(store.keys(tmp_path)) == [record.spec.key]
