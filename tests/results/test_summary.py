"""The long table, and the averages in the order: seeds, cases, classes, tasks."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import summary
from tests.results import fake


def tables(records, expected=None):
    trials = summary.trial_table(records, expected)
    tasks = summary.by_task(summary.case_scores(summary.long_table(records), trials), trials)
    return tasks.set_index(["task", "arm"]), summary.by_modality(tasks).set_index(["modality", "arm"])


def perfect(case, label, dice):
    """A score whose Dice is the given one: dice = 2 tp / (2 tp + fp), out of 1000 voxels."""
    return fake.score(case, label, tp=round(100 * dice), fp=round(200 * (1 - dice)), fn=0)


def trial(task, arm, seed, scores, modality="MRI"):
    cases = tuple(perfect(case, label, dice) for (case, label), dice in scores.items())
    return fake.complete(fake.spec(task, *arm, seed=seed), fake.task(task, modality), cases)


NONE, SMOL = ("none", "none"), ("smollm2", "pretrained")


def test_long_table_has_exactly_the_columns_and_one_row_a_score(tmp_path):
    records = [*fake.records(2), fake.failure(fake.spec("Task09_Fake"), fake.task("Task09_Fake"))]
    frame = summary.long_table(records)
    wanted = "task modality backbone control layer weights seed fold fraction digest case patient label tp fp fn tn "
    ratios = "dice jaccard precision recall specificity accuracy balanced_accuracy nsd hd95 hd95_penalised diagonal"
    assert list(frame.columns) == (wanted + ratios).split()
    assert len(frame) == 2 * 3 * 2 * 2 and "Task09_Fake" not in set(frame["task"])
    assert set(frame["weights"]) == {"none", "stand-in, random"}
    assert (frame[["tp", "fp", "fn", "tn"]].sum(axis=1) == 1000).all()
    csv, parquet = summary.write_results(tmp_path, frame)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), frame)
    assert list(pd.read_csv(csv).columns) == list(frame.columns)


def test_undefined_is_empty_in_the_csv(tmp_path):
    record = fake.complete(fake.spec(), fake.task(), (fake.score("p0_a", tp=0, fp=0, fn=0),))
    csv, _ = summary.write_results(tmp_path, summary.long_table([record]))
    assert csv.read_text().splitlines()[1].endswith(",0,0,0,1000" + "," * 11 + "100")


def test_a_row_a_class_by_hand():
    a, b, lesion = ("p0_a", "organ"), ("p1_b", "organ"), ("p0_a", "lesion")
    records = [
        trial("T1", NONE, 0, {a: 0.2, b: 0.6, lesion: 0.0}),
        trial("T1", NONE, 1, {a: 0.4, b: 0.6, lesion: 0.2}),
        trial("T1", SMOL, 0, {a: 0.5, b: 0.7, lesion: 0.3}),
        trial("T2", NONE, 0, {a: 0.5, b: 0.7}),
    ]
    trials = summary.trial_table(records)
    table = summary.by_label(summary.case_scores(summary.long_table(records), trials), trials)
    none, smol = "none", "smollm2"
    assert list(zip(table["class"], table["arm"], strict=True)) == [
        ("T1 · organ", none), ("T1 · organ", smol), ("T1 · lesion", none), ("T1 · lesion", smol),
    ]  # fmt: skip
    assert table["dice_mean"].tolist() == pytest.approx([0.45, 0.6, 0.1, 0.3])
    assert table["dice_difference"].tolist() == pytest.approx([math.nan, 0.15, math.nan, 0.2], nan_ok=True)
    assert table["dice_sd"].tolist()[:2] == pytest.approx([0.15 * 2**0.5, 0.1 * 2**0.5])
    assert table["cases"].tolist() == [2, 2, 1, 1] and table["n of expected"].tolist() == ["2 of 2", "1 of 1"] * 2


def test_averages_by_hand():
    a, b = ("p0_a", "organ"), ("p1_b", "organ")
    lesion = ("p0_a", "lesion")
    records = [
        trial("T1", NONE, 0, {a: 0.2, b: 0.6, lesion: 0.0}),
        trial("T1", NONE, 1, {a: 0.4, b: 0.6, lesion: 0.2}),
        trial("T1", SMOL, 0, {a: 0.5, b: 0.7, lesion: 0.3}),
    ]
    tasks, _ = tables(records)
    none, smol = tasks.loc["T1", "none"], tasks.loc["T1", "smollm2"]
    # seeds: a 0.3, b 0.6, lesion 0.1; cases: organ 0.45, lesion 0.1; labels: 0.275
    assert none["dice_mean"] == pytest.approx(0.275)
    # cases with labels averaged: a (0.3 + 0.1) / 2 = 0.2, b 0.6
    assert none["dice_sd"] == pytest.approx(math.sqrt(2 * 0.2**2))
    # differences: organ (0.2 + 0.1) / 2 = 0.15, lesion 0.2; labels: 0.175
    assert smol["dice_difference"] == pytest.approx(0.175) and math.isnan(none["dice_difference"])
    assert (none["cases"], none["n of expected"]) == (2, "2 of 2")


def test_difference_is_paired_on_the_same_cases():
    a, b = ("p0_a", "organ"), ("p1_b", "organ")
    tasks, _ = tables([trial("T1", NONE, 0, {a: 0.2, b: 0.9}), trial("T1", SMOL, 0, {a: 0.3})])
    assert tasks.loc["T1", "smollm2"]["dice_difference"] == pytest.approx(0.1)


def test_modality_and_all_are_means_over_tasks():
    a = ("p0_a", "organ")
    records = [
        trial("T1", NONE, 0, {a: 0.2, ("p1_b", "organ"): 0.4}, "MRI"),  # 0.3, whatever the number of cases
        trial("T2", NONE, 0, {a: 0.5}, "MRI"),
        trial("T3", NONE, 0, {a: 0.9}, "CT"),
    ]
    _, modalities = tables(records)
    assert list(modalities.index) == [("CT", "none"), ("MRI", "none"), ("all", "none")]
    assert modalities.loc["MRI", "none"]["dice_mean"] == pytest.approx(0.4)
    assert modalities.loc["MRI", "none"]["dice_sd"] == pytest.approx(math.sqrt(2 * 0.1**2))
    assert modalities.loc["all", "none"]["dice_mean"] == pytest.approx((0.3 + 0.5 + 0.9) / 3)


def test_undefined_scores_are_left_out_of_means():
    empty = fake.score("p1_b", tp=0, fp=0, fn=0)
    tasks, _ = tables([fake.complete(fake.spec("T1"), fake.task("T1"), (perfect("p0_a", "organ", 0.6), empty))])
    assert tasks.loc["T1", "none"]["dice_mean"] == pytest.approx(0.6)


def test_n_of_expected_counts_failures_and_what_never_ran():
    one = trial("T1", NONE, 0, {("p0_a", "organ"): 0.5})
    failed = fake.failure(fake.spec("T1", seed=1), fake.task("T1"))
    planned = [one.spec, failed.spec, fake.spec("T1", seed=2), fake.spec("T2", *SMOL)]
    tasks, modalities = tables([one, failed], planned)
    assert tasks.loc["T1", "none"]["n of expected"] == "1 of 3"
    assert tasks.loc["T2", "smollm2"]["n of expected"] == "0 of 1"
    assert math.isnan(tasks.loc["T2", "smollm2"]["dice_mean"])
    assert modalities.loc["all", "smollm2"]["n of expected"] == "0 of 1"
    assert set(summary.trial_table([one, failed], planned)["status"]) == {"complete", "failed", "missing"}


def test_arms_of_several_layers_and_fractions_are_kept_apart():
    a = {("p0_a", "organ"): 0.5}
    base = trial("T1", SMOL, 0, a)
    other = replace(base, spec=replace(base.spec, layer=7))
    assert set(summary.trial_table([base, other])["arm"]) == {"smollm2@31", "smollm2@7"}
    tenth = replace(base, spec=replace(base.spec, fraction=0.1))
    assert set(summary.trial_table([base, tenth])["arm"]) == {"smollm2", "smollm2, 10% of cases"}


def test_trials_that_differ_only_in_settings_are_not_mixed():
    base = trial("T1", NONE, 0, {("p0_a", "organ"): 0.5})
    other = replace(base, spec=replace(base.spec, train={"epochs": 9}))
    with pytest.raises(ValueError, match="other settings differ"):
        tables([base, other])


def test_reading_order_of_arms():
    records = fake.records(1, (("smollm2", "random"), ("gpt2", "stand-in"), ("smollm2", "pretrained"), NONE))
    order = ["none", "gpt2 (stand-in, random)", "smollm2", "smollm2 (random twin)"]
    assert summary.arms(summary.trial_table(records)) == order


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(str.strip))
def test_any_text_comes_back_from_the_csv(tmp_path_factory, label):
    record = fake.complete(fake.spec(), fake.task(), (fake.score("p0_a", label), fake.score("p1_b", "organ")))
    csv, _ = summary.write_results(tmp_path_factory.mktemp("csv"), frame := summary.long_table([record]))
    assert pd.read_csv(csv, keep_default_na=False, dtype=str)["label"].tolist() == frame["label"].tolist()
