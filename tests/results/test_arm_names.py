"""What an arm is called, which settings make another arm, and which arm is another's own control."""

from __future__ import annotations

from dataclasses import replace

import pytest

from results import compare, pairs, summary
from results.arms import arm_key, arm_names, said
from results.bootstrap import mean_intervals
from results.record import ANY_LAYER, TrialSpec
from tests.results import fake, generated

BASE = {"attention": "hybrid", "placement": "after", "residual": True, "channels": 1, "classes": 3}
SMOL = ("smollm2", "pretrained")


def spec(arm=("none", "none"), task="T1", **model) -> TrialSpec:
    return fake.spec(task, *arm, model=BASE | model)


def named(*specs: TrialSpec) -> list[str]:
    names = arm_names(specs)
    return [names[arm_key(one)] for one in specs]


def test_one_setting_only_is_not_named():
    assert named(spec(), spec(SMOL)) == ["none", "smollm2"]


def test_settings_that_differ_are_named_in_the_kind_of_arm_that_differs():
    found = named(spec(), spec(SMOL), spec(SMOL, placement="middle"), spec(SMOL, placement="middle", residual=False))
    assert found == [
        "none",
        "smollm2, placement after, residual on",
        "smollm2, placement middle, residual on",
        "smollm2, placement middle, residual off",
    ]


def test_what_a_task_decides_makes_no_arm():
    assert named(spec(), spec(task="T2", channels=4, classes=2)) == ["none", "none"]
    assert named(spec(), spec(task="T2", image=[8, 8, 8])) == ["none", "none"]  # within a task all are alike


def test_layers_and_fractions_stand_beside_variants():
    one = replace(spec(SMOL, attention="global"), layer=7, fraction=0.1)
    assert named(spec(SMOL), one) == [
        "smollm2@31, attention hybrid",
        "smollm2@7, attention global, 10% of cases",
    ]


@pytest.mark.parametrize(("value", "text"), [(True, "on"), ([8, 8, 4], "8×8×4"), ("skip", "skip"), (4, "4")])
def test_values_are_said_in_words(value, text):
    assert said(value) == text


def test_every_variant_is_compared_with_its_own_baseline():
    """The block's placement does not concern the baseline, attention does."""
    kinds = [spec(), spec(attention="global")]
    kinds += [
        spec(SMOL, placement=where, attention=how) for where in ("after", "before") for how in ("hybrid", "global")
    ]
    trials = summary.trial_table([fake.complete(one, fake.task("T1"), (fake.score("a"),)) for one in kinds])
    rows = pairs.questions(trials)
    assert len(rows) == 4
    for row in rows.itertuples():
        assert row.against == f"none, {row.arm.removeprefix('smollm2, ').split(', placement')[0]}"


def test_two_layers_are_another_arm_with_a_twin_of_its_own():
    """One block at both places says nothing of a second layer; what has no block of an LLM is every arm's control."""
    twice, drawn = {"second_layer": 3}, {"second_layer": ANY_LAYER}
    kinds = [spec(), *(spec(("smollm2", control)) for control in ("pretrained", "random", "identity"))]
    kinds += [replace(spec(("smollm2", "pretrained")), block=block) for block in (twice, {"second_layer": 5})]
    kinds += [replace(spec(("smollm2", "shuffled")), block=twice), replace(spec(("smollm2", "random")), block=drawn)]
    assert named(*kinds[1:3], *kinds[4:6], kinds[7]) == [
        *("smollm2", "smollm2 (random twin)", "smollm2, second layer 3", "smollm2, second layer 5"),
        "smollm2 (random twin), second layer any",
    ]
    trials = summary.trial_table([fake.complete(one, fake.task("T1"), (fake.score("a"),)) for one in kinds])
    twins, mappers = (summary.controls_of(trials, control) for control in ("random", "identity"))
    assert twins["smollm2"] == "smollm2 (random twin)"
    assert {twins[f"smollm2, second layer {n}"] for n in (3, 5)} == {"smollm2 (random twin), second layer any"}
    assert mappers["smollm2"] == mappers["smollm2, second layer 3"] == "smollm2 (mappers only)"
    shuffled = summary.controls_of(trials, "shuffled")
    assert shuffled["smollm2, second layer 3"] == "smollm2 (shuffled)" and "smollm2, second layer 5" not in shuffled


def test_an_arm_without_a_baseline_of_its_settings_is_not_compared():
    kinds = [spec(), spec(SMOL), spec(SMOL, attention="global")]
    trials = summary.trial_table([fake.complete(one, fake.task("T1"), (fake.score("a"),)) for one in kinds])
    assert summary.controls_of(trials, "none") == {"smollm2, attention hybrid": "none"}


def test_variants_have_their_own_scores_and_differences():
    made = [
        fake.complete(one, fake.task("T1"), (fake.score("p0_a", tp=tp, fp=10, fn=10),))
        for one, tp in (
            (spec(), 50),
            (spec(attention="global"), 60),
            (spec(SMOL), 70),
            (spec(SMOL, attention="global"), 90),
        )
    ]
    trials = summary.trial_table(made)
    rows = summary.by_task(summary.case_scores(summary.long_table(made), trials), trials).set_index("arm")
    assert rows.loc["smollm2, attention global", "dice_difference"] == pytest.approx(180 / 200 - 120 / 140)
    assert rows.loc["smollm2, attention hybrid", "dice_difference"] == pytest.approx(140 / 160 - 100 / 120)


def test_a_setting_that_only_two_runs_differ_in_makes_no_arms_when_they_are_compared():
    a = [replace(record, spec=replace(record.spec, model=BASE)) for record in fake.records(1)]
    b = [replace(record, spec=replace(record.spec, model=BASE | {"attention": "global"})) for record in a]
    found = compare.compare(a, b)
    assert set(found.rows["arm"]) == {"none", "llama3 (stand-in, random)", "mistral (stand-in, random)"}
    assert 'model.attention: "hybrid" in A, "global" in B' in found.settings


def test_the_interval_of_a_comparison_is_that_of_the_bootstrap_over_cases():
    a, b = (generated.records(tasks=2, seed=seed, cases=9) for seed in (0, 1))
    found = compare.compare(a, b, draws=2000)
    wide = {}
    for side, made in (("a", a), ("b", b)):
        trials = summary.trial_table(made)
        scores = summary.case_scores(summary.long_table(made), trials)
        wide[side] = scores.set_index(["task", "arm", "case"])["dice"]
    differences = wide["b"] - wide["a"]
    for row in found.rows[found.rows["task"] != "all"].itertuples():
        ends = mean_intervals([differences[row.task, row.arm].to_numpy()], 2000, 0)[0]
        assert (row.low, row.high) == pytest.approx(tuple(ends), abs=1e-9)
        assert row.low <= row.difference <= row.high
    overall = found.rows[found.rows["task"] == "all"]
    assert (overall["low"] < overall["difference"]).all() and (overall["difference"] < overall["high"]).all()


def test_cases_of_one_patient_are_drawn_together():
    a = generated.records(tasks=1, cases=12, patients=3, patient_noise=0.2)
    b = generated.records(tasks=1, cases=12, patients=3, patient_noise=0.2, seed=1)
    apart = [replace(r, cases=tuple(replace(c, patient=c.case) for c in r.cases)) for r in (*a, *b)]
    together, single = compare.compare(a, b).rows, compare.compare(apart[: len(a)], apart[len(a) :]).rows
    assert ((together["high"] - together["low"]) > (single["high"] - single["low"])).mean() > 0.7
