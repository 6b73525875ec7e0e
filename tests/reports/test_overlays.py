"""Previews, the choice of cases, and the figures made of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from reports import cases, previews, shown
from results import summary
from tests.results import fake

ARMS = ["none", "llama3 (stand-in, random)", "mistral (stand-in, random)"]


@pytest.fixture
def run(tmp_path):
    made = fake.records(1)
    return fake.write_run(tmp_path, made), made, summary.trial_table(made)


def found(folder, made, trials):
    """Task → its cases, and the sentences about what is missing."""
    told = list(cases.task_cases([folder], shown.shown_trials(made, trials), trials))
    return {task: chosen for task, chosen, _ in told}, [sentence for *_, missing in told for sentence in missing]


def scores(**dice):
    """A row a case × arm; a case is a keyword, its value the Dice of arms a, b, …"""
    rows = [(case, "abc"[n], value) for case, values in dice.items() for n, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["case", "arm", "dice"]).assign(task="T")


def test_slices_of_different_size_come_back_by_case(run):
    folder, made, _ = run
    slices = previews.read_slices(previews.preview_path(folder, made[0].spec.key))
    assert list(slices) == ["p0_case0", "p1_case1"]
    assert [one.image_HW.shape for one in slices.values()] == [(48, 40), (56, 56)]
    assert [one.aspect for one in slices.values()] == [1.0, 1.5]


def test_a_row_an_arm_and_a_column_a_case(run):
    by_task, problems = found(*run)
    task = by_task["Task01_Fake"]
    assert list(task.slices) == ARMS and not problems and not task.hidden
    figure = cases.overlay(task, ("organ", "lesion"))
    words = [text.get_text() for text in figure.findobj(Text)]
    assert {"image", "reference", "none", "llama3 (stand-in, random)"} <= set(words)
    assert sum(word in {f"{value:.3f}" for value in task.dice.values()} for word in words) >= len(task.dice)


def test_the_choice_is_told_with_each_reason():
    chosen = shown.choose(scores(a=[0.5, 0.6], b=[0.9, 0.8], c=[0.1, 0.2], d=[0.7, 0.7], e=[0.8, 0.7]))
    assert chosen == {"a": "first", "b": "best 0.850", "d": "median 0.700", "c": "worst 0.150"}
    assert shown.choose(scores(a=[0.5])) == {"a": "first, best 0.500, median 0.500, worst 0.500"}
    assert shown.choose(scores(a=[float("nan")])) == {"a": "first"}
    assert shown.choose(scores()) == {}


def test_a_case_that_an_arm_has_no_score_of_does_not_compete():
    chosen = shown.choose(scores(a=[0.5, 0.5], b=[0.99], c=[0.6, 0.6]))
    assert "b" not in chosen and chosen["c"] == "best 0.600"


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=9))
def test_best_median_and_worst_are_in_order(values):
    table = scores(**{f"case{n}": pair for n, pair in enumerate(values)})
    means = table.groupby("case")["dice"].mean()
    chosen = shown.choose(table)
    at = {why: means[case] for case, reason in chosen.items() for why in ("best", "median", "worst") if why in reason}
    assert at["worst"] == means.min() and at["best"] == means.max() and at["worst"] <= at["median"] <= at["best"]
    assert "case0" in chosen and len(chosen) <= 4


def test_cases_are_sorted_by_how_much_arms_differ():
    table = shown.spread(scores(a=[0.5, 0.6], b=[0.9, 0.2], c=[float("nan")] * 2))
    assert table["case"].tolist() == ["b", "a", "c"]
    assert table["spread"].tolist() == pytest.approx([0.7, 0.1, 0])


def test_dice_is_that_of_the_first_seed_of_each_arm():
    made = fake.records(1, seeds=2)
    table = shown.shown_trials(made, summary.trial_table(made))
    assert len(table) == 3 * 2 and set(table["key"].str.split("/").str[2].str[0]) == {"0"}
    first = next(record for record in made if record.spec.key == table["key"][0])
    ratios = [2 * c.tp / (2 * c.tp + c.fp + c.fn) for c in first.cases if c.case == table["case"][0]]
    assert table["dice"][0] == pytest.approx(np.mean(ratios))


def test_missing_and_damaged_previews_are_said(run):
    folder, made, trials = run
    previews.preview_path(folder, made[0].spec.key).unlink()
    previews.preview_path(folder, made[1].spec.key).write_bytes(b"PK\x03\x04 cut short")
    by_task, problems = found(folder, made, trials)
    assert len(problems) == 2
    assert "no preview file" in problems[0] and made[1].spec.digest in problems[1]
    assert cases.overlay(by_task["Task01_Fake"], ("organ", "lesion")) is not None


def test_arms_without_a_complete_trial_are_said(run):
    folder, made, _ = run
    made = [*made, fake.failure(fake.spec("Task01_Fake", "gpt2", "stand-in"), fake.task())]
    by_task, problems = found(folder, made, summary.trial_table(made))
    assert problems == ["Task01_Fake, gpt2 (stand-in, random): no complete trial"]
    assert list(by_task["Task01_Fake"].slices) == ARMS


def test_many_arms_leave_room_for_what_was_pre_trained(tmp_path):
    kinds = [(f"b{n:02d}", kind) for n in range(cases.MOST_ARMS) for kind in ("pretrained", "random")]
    made = fake.records(1, (("none", "none"), *kinds))
    by_task, _ = found(fake.write_run(tmp_path, made), made, summary.trial_table(made))
    task = by_task["Task01_Fake"]
    assert list(task.slices) == ["none", *(name for name, kind in kinds if kind == "pretrained")][: cases.MOST_ARMS]
    assert task.hidden == len(kinds) + 1 - cases.MOST_ARMS and f"without {task.hidden} more arms" in task.caption


def test_nothing_to_show_is_no_figure():
    assert cases.overlay(cases.TaskCases({}, {"none": {}}, {}), ("organ",)) is None


@pytest.mark.parametrize("change", ["shape", "aspect", "absent", "pickle"])
def test_a_wrong_preview_is_named(tmp_path, change):
    image = np.zeros((4, 4), np.uint8)
    arrays = {"cases": np.array(["a"]), "image_0": image, "reference_0": image, "prediction_0": image}
    arrays |= {"shape": {"prediction_0": image[:2]}, "aspect": {"aspect_0": np.float64(0)}}.get(change, {})
    if change == "absent":
        del arrays["reference_0"]
    if change == "pickle":
        arrays["image_0"] = np.array([{"not": "plain"}], dtype=object)
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(previews.PreviewError, match=r"wrong\.npz"):
        previews.read_slices(tmp_path / "wrong.npz")
