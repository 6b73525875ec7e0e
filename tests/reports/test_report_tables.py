"""Bold, signs and the three file formats."""

import pandas as pd
import pytest

from reports import formats, tables
from results import summary
from tests.results import fake


def scores(**dice):
    """A frame as `by_task` gives it: an arm a keyword, (Dice, complete trials) its value."""
    rows = [
        {"task": "Task_1", "arm": arm, "cases": 2, "complete": n, "n of expected": f"{n} of 2"}
        for arm, (_, n) in dice.items()
    ]
    frame = pd.DataFrame(rows)
    for name in summary.METRICS:
        frame[f"{name}_mean"] = [value for value, _ in dice.values()]
        frame[f"{name}_sd"], frame[f"{name}_difference"] = 0.1, -0.02
    return frame


@pytest.mark.parametrize(
    ("given", "bold"),
    [
        ({"a": (0.5, 2), "b": (0.7, 2)}, [False, True]),
        ({"a": (0.7001, 2), "b": (0.7002, 2)}, [True, True]),  # equal as shown
        ({"a": (0.5, 2)}, [False]),  # nobody to be better than
        ({"a": (0.5, 2), "b": (0.9, 1), "c": (0.4, 2)}, [True, False, False]),  # b was scored on less
        ({"a": (0.5, 2), "b": (0.9, 1)}, [False, False]),
        ({"a": (float("nan"), 0), "b": (float("nan"), 0)}, [False, False]),
    ],
)
def test_best_is_bold(given, bold):
    assert tables.best(scores(**given), "task")["dice"].tolist() == bold


def test_score_table_shows_mean_sd_difference_and_n():
    table = tables.score_table("by_task", "caption", scores(none=(0.5, 2), b=(0.7, 1)), {"Task_1": "Task_1 · CT"})
    row = table.groups[0].rows[0]
    assert row[1] == tables.Cell("0.500 ± 0.100", False, "−0.020")
    assert [cell.text for cell in (row[0], *row[-2:])] == ["none", "2", "2 of 2"]
    assert table.groups[0].title == "Task_1 · CT"


def test_numbers_as_text():
    assert tables.mean_sd(0.5, float("nan")) == "0.500" and tables.mean_sd(float("nan"), 0.1) == "–"
    assert [tables.signed(value) for value in (0.01, -0.01, -0.0001, float("nan"))] == ["+0.010", "−0.010", "0.000", ""]


def test_markdown_is_escaped():
    frame = pd.DataFrame({"Task": ["a|b <script> *c*"], "n": [1]})
    text = formats.markdown(tables.plain("data", "caption", frame, ["n"]))
    assert r"| a\|b &lt;script&gt; \*c\* | 1 |" in text and "| --- | ---: |" in text


def test_csv_keeps_full_precision_and_empty_cells():
    trials = summary.trial_table(made := fake.records(1))
    by_task = summary.by_task(summary.case_scores(summary.long_table(made), trials), trials)
    lines = formats.csv(tables.score_table("by_task", "", by_task, {})).splitlines()
    assert lines[0].startswith("task,modality,arm,") and lines[0].endswith(",n of expected")
    assert repr(float(by_task["dice_mean"][0])) in lines[1] and ",," in lines[1]
