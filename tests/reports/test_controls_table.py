"""The table of arms and controls: grouped by backbone, each with what it trains and what is frozen."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from reports import answers, build
from reports.controls import PLACE, controls_table
from results import summary
from results.record import CONTROLS
from tests.results import fake

ALL = [("none", "none")] + [("smollm2", name) for name in CONTROLS if name not in ("none", "stand-in", "reference")]
REFERENCES = [("dynunet", "reference"), ("unetr", "reference")]


def records() -> list:
    """Every control of one backbone, with parameters that tell the arms apart."""
    made = fake.records(2, (*ALL, ("gpt2", "random")))
    order = list(CONTROLS)
    return [
        replace(record, cost=record.cost | {"trainable_parameters": 1000 + order.index(record.spec.control)})
        for record in made
    ]


def test_arms_stand_by_backbone_in_reading_order_with_their_parameters():
    made = records()
    trials = summary.trial_table(made)
    tasks = summary.by_task(summary.case_scores(summary.long_table(made), trials), trials)
    table = controls_table(made, trials, summary.by_modality(tasks))
    assert [group.title for group in table.groups] == ["Baseline", "gpt2 (random twin)", "smollm2"]
    rows = [[cell.text for cell in row] for row in table.groups[2].rows]
    assert [row[0] for row in rows] == [
        f"smollm2{suffix}" for name, suffix in CONTROLS.items() if ("smollm2", name) in ALL
    ]
    assert [row[1] for row in rows] == [PLACE[name] for name in CONTROLS if ("smollm2", name) in ALL]
    assert [row[2] for row in rows] == [f"{1000 + i:,}" for i, name in enumerate(CONTROLS) if ("smollm2", name) in ALL]
    assert {row[3] for row in rows} == {"7,890,123"} and {row[-1] for row in rows} == {"2 of 2"}
    assert table.groups[0].rows[0][5].text == "–" and all(row[5] != "–" for row in rows)


def test_references_stand_last_in_a_group_of_their_own_and_get_no_verdict():
    made = fake.records(2, (*REFERENCES, ("zebra", "pretrained"), ("zebra", "random"), ("none", "none")), cases=8)
    trials, frame = summary.trial_table(made), summary.long_table(made)
    tasks = summary.by_task(summary.case_scores(frame, trials), trials)
    table = controls_table(made, trials, summary.by_modality(tasks))
    assert [group.title for group in table.groups] == ["Baseline", "zebra", "Reference models"]
    assert [row[0].text for row in table.groups[2].rows] == ["dynunet (reference)", "unetr (reference)"]
    assert (
        summary.arms(trials)[-2:] == list(trials["arm"].unique())[-2:] == ["dynunet (reference)", "unetr (reference)"]
    )
    asked = answers.ask(frame, trials, set())
    assert set(asked.verdicts["arm"]) == {"zebra"}
    told = asked.comparisons[asked.comparisons["control"] == "reference"]
    assert set(told["question"]) == {"baseline"} and len(told) == 4


def test_every_control_has_words_of_its_own():
    assert set(PLACE) == set(CONTROLS) and len(set(PLACE.values())) == len(PLACE)


def test_it_is_on_the_page_and_in_the_files(tmp_path):
    page = build.write_report(fake.write_run(tmp_path, records()), command="x")
    assert "Table 4. Arms and controls" in page.read_text()
    assert "Table 4. Arms and controls" in (page.parent / "report.md").read_text()
    frame = pd.read_csv(page.parent / "tables" / "controls.csv")
    assert len(frame) == len(ALL) + 1 and set(frame["Group"]) == {"Baseline", "smollm2", "gpt2 (random twin)"}
    for words in ("smollm2 (matched MLP): an MLP", "smollm2 (trained): the pre-trained block, trained", "no structure"):
        assert words in page.read_text()
