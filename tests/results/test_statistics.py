"""Pairs, comparisons and means, from records to rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results import pairs, statistics, summary
from results.record import CONTROLS
from tests.results import fake, generated
from tests.speed import statistics as speed

NONE, SMOL, TWIN, MLP = generated.ARMS
WORDS = ["task", "arm", "question"]


def trial(task, arm, scores, seed=0, modality="MRI", **changes):
    """scores: (case, label) -> Dice, or None where both masks are empty. A case's patient is what precedes its `_`."""
    cases = tuple(
        fake.score(case, label, *((0, 0, 0) if dice is None else (1000 * dice, 1000 * (1 - dice), 1000 * (1 - dice))))
        for (case, label), dice in scores.items()
    )
    cases = tuple(replace(case, tp=round(case.tp), fp=round(case.fp), fn=round(case.fn), tn=9000) for case in cases)
    return fake.complete(fake.spec(task, *arm, seed=seed, **changes), fake.task(task, modality), cases)


def organ(**cases):
    return {(case, "organ"): dice for case, dice in cases.items()}


def compared(records, expected=None, **settings):
    frame, trials = summary.long_table(records), summary.trial_table(records, expected)
    table = statistics.comparisons(frame, trials, **{"draws": 200, **settings})
    assert tuple(table.columns) == statistics.COLUMNS and not table.duplicated(WORDS).any()
    return table.set_index(WORDS)


def test_differences_by_hand():
    records = [
        trial("T1", NONE, {("a", "organ"): 0.2, ("b", "organ"): 0.6, ("a", "lesion"): 0.0}, seed=0),
        trial("T1", NONE, {("a", "organ"): 0.4, ("b", "organ"): 0.6, ("a", "lesion"): 0.2}, seed=1),
        trial("T1", SMOL, {("a", "organ"): 0.5, ("b", "organ"): 0.7, ("a", "lesion"): 0.3}, seed=0),
        trial("T1", SMOL, {("a", "organ"): 0.5, ("b", "organ"): 0.7, ("a", "lesion"): 0.3}, seed=1),
    ]
    row = compared(records).loc["T1", "smol", "baseline"]
    # seeds: a 0.3 and 0.1; labels of a: (0.2 + 0.2) / 2 = 0.2; b: 0.1
    assert row["mean"] == row["median"] == pytest.approx(0.15)
    assert (row["n"], row["unit"], row["against"], row["dropped"]) == (2, "case", "none", 0)
    assert row["dz"] == pytest.approx(0.15 / np.std([0.2, 0.1], ddof=1)) and row["effect"] == 1
    assert np.isnan(row["p"]) and row["note"] == "too few cases for a test: 2, and it needs 6"


def test_a_pair_needs_a_value_in_both_arms():
    lesion = {("a", "lesion"): None, ("b", "lesion"): 0.5}
    records = [
        trial("T1", NONE, {**organ(a=0.5, b=0.5, c=0.5), ("a", "lesion"): 0.9, ("b", "lesion"): None}),
        trial("T1", SMOL, {**organ(a=0.6, b=0.8, d=0.1), **lesion}),
    ]
    row = compared(records).loc["T1", "smol", "baseline"]
    # c and d are in one arm each; neither lesion has a value in both
    assert (row["n"], row["dropped"]) == (2, 4) and row["mean"] == pytest.approx(0.2)
    assert row["note"].endswith("4 cases × labels left out: no value in both arms")


def test_cases_of_one_patient_are_one_unit():
    cases = [f"p{patient}_{number}" for patient in range(7) for number in range(patient + 1)]
    rng = np.random.default_rng(0)
    base, gain = rng.uniform(0.3, 0.5, len(cases)), rng.uniform(-0.1, 0.2, len(cases))
    records = [
        trial("T1", NONE, organ(**dict(zip(cases, base.round(3), strict=True)))),
        trial("T1", SMOL, organ(**dict(zip(cases, (base + gain).round(3), strict=True)))),
    ]
    row = compared(records).loc["T1", "smol", "baseline"]
    frame = summary.long_table(records).pivot(index=["patient", "case"], columns="control", values="dice")
    patients = (frame["pretrained"] - frame["none"]).groupby("patient").mean()
    assert (row["n"], row["unit"]) == (7, "patient")
    assert row["mean"] == pytest.approx(patients.mean()) and row["median"] == pytest.approx(patients.median())
    assert row["p"] == pytest.approx(stats.wilcoxon(patients).pvalue)
    assert row["dz"] == pytest.approx(patients.mean() / patients.std(ddof=1))


def test_folds_are_further_cases():
    records = [
        trial("T1", arm, organ(**{case: 0.4 + gain}), fold=fold)
        for arm, gain in ((NONE, 0.0), (SMOL, 0.1))
        for fold, case in enumerate("abcdefg")
    ]
    row = compared(records).loc["T1", "smol", "baseline"]
    assert row["n"] == 7 and row["mean"] == pytest.approx(0.1)
    # all equal: the interval is the value, the ranks are all on one side, and no effect can be said in deviations
    assert (row["low"], row["high"]) == pytest.approx((0.1, 0.1), abs=1e-12)
    assert row["effect"] == 1 and np.isnan(row["dz"]) and np.isnan(row["detectable"])
    assert row["p"] == pytest.approx(2 / 2**7) and "all differences are equal" in row["note"]


def test_equal_arms_have_no_difference_and_p_is_one():
    records = [trial("T1", arm, organ(**{case: 0.4 for case in "abcdef"})) for arm in (NONE, SMOL)]
    row = compared(records).loc["T1", "smol", "baseline"]
    assert (row["mean"], row["low"], row["high"], row["p"], row["p_holm"], row["effect"]) == (0, 0, 0, 1, 1, 0)


def test_rounding_is_no_difference():
    """0.1 + 0.2 is not 0.3 in floating point; the test must see a zero."""
    records = [trial("T1", NONE, organ(**{c: 0.3 for c in "abcdefg"}), seed=seed) for seed in (0, 1)]
    records += [
        trial("T1", SMOL, organ(**{c: dice for c in "abcdefg"}), seed=seed) for seed, dice in ((0, 0.2), (1, 0.4))
    ]
    assert compared(records).loc["T1", "smol", "baseline"]["p"] == 1


def test_every_question_has_its_own_control():
    controls = [control for control in CONTROLS if control not in ("none", "reference", "external")]
    arms = [NONE, *((name, control) for name in ("smol", "gem") for control in controls)]
    records = [trial("T1", arm, organ(a=0.5)) for arm in arms]
    asked = pairs.questions(summary.trial_table(records)).set_index(["arm", "question"])["against"]
    for name in ("smol", "gem"):
        for subject in (name, f"{name} (stand-in, random)"):
            assert list(asked[subject].index) == list(pairs.QUESTIONS)
            assert asked[subject, "baseline"] == "none" and asked[subject, "random"] == f"{name} (random twin)"
            assert asked[subject, "mlp"] == f"{name} (matched MLP)"
            assert asked[subject, "depth"] == f"{name} (matched depth)"
            assert asked[subject, "shuffled"] == f"{name} (shuffled)"
            assert asked[subject, "identity"] == f"{name} (mappers only)"
        for control in ("random twin", "matched MLP", "trained", "LoRA", "shuffled"):
            assert list(asked[f"{name} ({control})"].index) == ["baseline"]
    assert len(asked) == 2 * (2 * 6 + 7)


def test_arms_are_compared_at_their_own_layer_and_fraction():
    records = [
        trial("T1", arm, organ(a=0.5), layer=layer, fraction=fraction)
        for fraction in (1.0, 0.1)
        for arm, layer in ((NONE, None), (SMOL, 3), (SMOL, 9), (TWIN, None), (("smol", "shuffled"), 3))
    ]
    asked = pairs.questions(summary.trial_table(records)).set_index(["arm", "question"])["against"]
    for part in ("", ", 10% of cases"):
        for layer in (3, 9):
            assert asked[f"smol@{layer}{part}", "baseline"] == f"none{part}"
            assert asked[f"smol@{layer}{part}", "random"] == f"smol (random twin){part}"
        assert asked[f"smol@3{part}", "shuffled"] == f"smol (shuffled){part}"
        assert (f"smol@9{part}", "shuffled") not in asked


def test_what_was_planned_and_not_run_says_so():
    one, other = organ(a=0.5, b=0.5), organ(a=0.6, b=0.5)
    planned = [trial(task, arm, {}).spec for task in ("T1", "T2") for arm in (NONE, SMOL, TWIN)]
    failed = fake.failure(fake.spec("T1", *TWIN), fake.task("T1"))
    table = compared([trial("T1", NONE, one), trial("T1", SMOL, other), failed], planned)
    assert table.loc["T1", "smol", "baseline"]["n"] == 2
    for key in (("T1", "smol", "random"), ("T1", "smol (random twin)", "baseline"), ("T2", "smol", "baseline")):
        row = table.loc[key]
        assert (row["n"], row["note"]) == (0, "not run") and row[["mean", "low", "p", "effect"]].isna().all()
    assert "mlp" not in table.index.get_level_values("question")


def test_nothing_run_gives_tables_without_numbers():
    planned = [trial("T1", arm, {}).spec for arm in (NONE, SMOL)]
    frame, trials = summary.long_table([]), summary.trial_table([], planned)
    assert list(statistics.comparisons(frame, trials)["note"]) == ["not run"]
    assert set(statistics.over_tasks(frame, trials)["note"]) == {"not run"}
    assert len(statistics.means(frame, trials)) == 0


def test_other_seeds_are_told():
    records = [trial("T1", NONE, organ(a=0.5), seed=seed) for seed in (0, 1)] + [trial("T1", SMOL, organ(a=0.6))]
    assert compared(records).loc["T1", "smol", "baseline"]["note"].startswith("seeds 0 against 0, 1")


@pytest.mark.parametrize("metric", summary.METRICS)
def test_any_metric_that_tables_show(metric):
    frame, trials = generated.study(tasks=2, cases=8)
    row = statistics.comparisons(frame, trials, metric, draws=200).iloc[0]
    values = frame[frame["task"] == row["task"]].pivot(index="case", columns="control", values=metric)
    assert row["mean"] == pytest.approx((values["pretrained"] - values["none"]).mean())


@pytest.mark.parametrize("call", [statistics.comparisons, statistics.over_tasks, statistics.means])
def test_an_unknown_metric_is_answered_with_the_nearest(call):
    frame, trials = generated.study(tasks=1, cases=2)
    with pytest.raises(ValueError, match="unknown metric 'dise'; did you mean 'dice'"):
        call(frame, trials, "dise")


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), cases=st.integers(1, 14), labels=st.integers(1, 3), seeds=st.integers(1, 3))
def test_a_row_is_what_pandas_and_scipy_make_of_its_cases(seed, cases, labels, seeds):
    frame, trials = generated.study(tasks=2, cases=cases, labels=labels, seeds=seeds, seed=seed)
    rows = statistics.comparisons(frame, trials, draws=200).set_index(WORDS)
    for control, question in (("none", "baseline"), ("random", "random"), ("mlp", "mlp")):
        values = frame.groupby(["task", "control", "case", "label"])["dice"].mean().unstack("control")
        differences = (values["pretrained"] - values[control]).groupby(["task", "case"]).mean()
        for task, sample in differences.groupby("task"):
            row = rows.loc[task, "smol", question]
            assert row["n"] == cases
            assert row["mean"] == pytest.approx(sample.mean()) and row["median"] == pytest.approx(sample.median())
            assert np.isnan(row["p"]) == (cases < 6)
            if cases >= 6:
                assert row["p"] == pytest.approx(stats.wilcoxon(sample).pvalue)
                assert row["low"] <= row["mean"] <= row["high"] or abs(stats.skew(sample)) > 1.5


def test_rows_do_not_depend_on_order_or_company():
    frame, trials = generated.study(tasks=3, arms=generated.many_arms(2), cases=9, seed=4)
    rows = statistics.comparisons(frame, trials, draws=300).set_index(WORDS).drop(columns="p_holm")
    shuffled = frame.sample(frac=1, random_state=1)
    again = statistics.comparisons(shuffled, trials, draws=300).set_index(WORDS).drop(columns="p_holm")
    pd.testing.assert_frame_equal(rows, again)
    few, fewer = (table[table["backbone"].isin(["none", "b00"])] for table in (frame, trials))
    alone = statistics.comparisons(few, fewer, draws=300).set_index(WORDS).drop(columns="p_holm")
    pd.testing.assert_frame_equal(rows.loc[alone.index], alone)
    other = statistics.comparisons(frame, trials, draws=300, seed=1).set_index(WORDS)
    assert (other["low"] != rows["low"]).any()


def test_holm_is_over_tasks_and_backbones_of_one_question():
    frame, trials = generated.study(tasks=4, arms=generated.many_arms(3), cases=9, seed=4)
    rows = statistics.comparisons(frame, trials, draws=200)
    for (control, _), family in rows.groupby(["control", "question"]):
        assert len(family) == 12, control
        least = family.loc[family["p"].idxmin()]
        assert least["p_holm"] == pytest.approx(min(1, 12 * least["p"]))
        assert family["p_holm"].max() >= family["p"].max()


def test_over_tasks_by_hand():
    gains = {"T1": (0.1, "MRI", "abcdefg"), "T2": (0.2, "MRI", "ab"), "T3": (0.6, "CT", "abc")}
    records = [
        trial(task, arm, organ(**{case: 0.2 + size for case in cases}), modality=modality)
        for task, (gain, modality, cases) in gains.items()
        for arm, size in ((NONE, 0.0), (SMOL, gain))
    ]
    frame, trials = summary.long_table(records), summary.trial_table(records)
    table = statistics.over_tasks(frame, trials, draws=2000)
    assert tuple(table.columns) == statistics.COLUMNS and set(table["task"]) == {"all"}
    rows = table.set_index("modality")
    assert list(rows.index) == ["CT", "MRI", "all"]
    assert rows["mean"].tolist() == pytest.approx([0.6, 0.15, 0.3])
    assert rows[["n", "unit"]].to_numpy().tolist() == [[3, "case"], [2, "task"], [3, "task"]]
    # tasks do not scatter within: the draws are those of 0.1 and 0.2, with shares 1/4, 1/2, 1/4
    assert (rows.loc["MRI", "low"], rows.loc["MRI", "high"]) == pytest.approx((0.1, 0.2))
    assert "too few tasks for a test: 3" in rows.loc["all", "note"] and np.isnan(rows.loc["all", "p"])


def test_over_tasks_of_one_task_is_that_task():
    frame, trials = generated.study(tasks=1, cases=20, arms=generated.many_arms(2))
    of_task = statistics.comparisons(frame, trials, draws=400).drop(columns=["task", "modality"])
    over = statistics.over_tasks(frame, trials, draws=400)
    everything = over[over["modality"] == "all"].drop(columns=["task", "modality"])
    pd.testing.assert_frame_equal(of_task, everything.reset_index(drop=True))


def test_over_tasks_tests_the_means_of_tasks():
    frame, trials = generated.study(tasks=7, cases=9, gain={"pretrained": 0.02}, arms=generated.many_arms(2))
    over = statistics.over_tasks(frame, trials, draws=400)
    rows = over[(over["modality"] == "all") & (over["question"] == "baseline") & (over["control"] == "pretrained")]
    of_task = statistics.comparisons(frame, trials, draws=100)
    for row in rows.itertuples():
        means = of_task[(of_task["arm"] == row.arm) & (of_task["question"] == "baseline")]["mean"]
        assert row.n == 7 and row.mean == pytest.approx(means.mean())
        assert row.p == pytest.approx(stats.wilcoxon(means).pvalue)
    assert rows["p_holm"].min() == pytest.approx(min(1, 2 * rows["p"].min()))


def test_a_task_that_is_missing_is_told_over_tasks():
    records = [trial(task, arm, organ(a=0.4, b=0.5)) for task in ("T1", "T2", "T3") for arm in (NONE, SMOL)]
    frame, trials = summary.long_table(records[:-1]), summary.trial_table(records[:-1], [records[-1].spec])
    row = statistics.over_tasks(frame, trials, draws=100).set_index("modality").loc["all"]
    assert row["n"] == 2 and "2 of 3 tasks" in row["note"]


def test_means_by_hand():
    records = [
        trial("T1", NONE, organ(a=0.2, b=0.6), seed=0),
        trial("T1", NONE, organ(a=0.4, b=0.8, c=0.9), seed=1),
        trial("T2", NONE, organ(a=0.5)),
    ]
    frame, trials = summary.long_table(records), summary.trial_table(records)
    table = statistics.means(frame, trials, draws=200)
    assert tuple(table.columns) == statistics.MEANS
    one, two, modality, everything = (row for _, row in table.iterrows())
    assert one["mean"] == pytest.approx((0.3 + 0.7 + 0.9) / 3) and one["n"] == 3
    assert one["case_sd"] == pytest.approx(np.std([0.3, 0.7, 0.9], ddof=1))
    # on a and b, which both seeds have: 0.4 and 0.6; the case that one seed has is not a difference of seeds
    assert one["seed_sd"] == pytest.approx(np.std([0.4, 0.6], ddof=1)) and one["seeds"] == 2
    assert np.isnan(two["seed_sd"]) and two["seeds"] == 1 and np.isnan(two["low"])
    for row in (modality, everything):
        assert (row["task"], row["n"], row["unit"]) == ("all", 2, "task")
        assert row["mean"] == pytest.approx((one["mean"] + 0.5) / 2) and np.isnan(row["seed_sd"])
    assert (modality["modality"], everything["modality"]) == ("MRI", "all")


def test_seeds_and_cases_scatter_apart():
    """The spread of seeds says nothing of the spread of cases, and the other way round."""
    frame, trials = generated.study(tasks=1, cases=40, seeds=4, noise=0.2)
    rows = statistics.means(frame, trials, draws=200)
    rows = rows[rows["task"] != "all"]
    assert (rows["case_sd"] > 20 * rows["seed_sd"]).all() and (rows["seed_sd"] > 0).all()


def test_generated_studies_are_as_large_as_they_say():
    made = generated.records(**(generated.LARGE | {"tasks": 1, "seeds": 1}))
    assert len(made) == 40 and {len(record.cases) for record in made} == {100}
    assert 10 * 5 * len(made) * 100 == 200_000


def test_what_the_speed_measurement_compares_is_the_same_bootstrap():
    """Its peer's differences are ours, its peer's intervals are ours, and intervals of a shifted table are not."""
    frame, trials = generated.study(tasks=2, arms=generated.many_arms(2), seeds=2, cases=20, labels=2)
    rows = statistics.comparisons(frame, trials, draws=speed.DRAWS)
    differences = list(speed.paired_differences(frame, rows))
    assert rows["mean"].to_numpy() == pytest.approx([row.mean() for row in differences])
    ours, theirs = rows[["low", "high"]].to_numpy(), speed.plain_loop(differences)
    assert speed.errors_apart(ours, theirs, differences) < speed.ERRORS
    shifted = ours + 0.2 * (ours[:, 1:] - ours[:, :1])
    assert speed.errors_apart(shifted, theirs, differences) > speed.ERRORS
