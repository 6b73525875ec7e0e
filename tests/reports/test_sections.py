"""Sections that only some studies have: ranks, costs, fractions, layers, places, variants, empty masks, activations."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reports import activations, build, gathered, html, rank_tables, sweep_tables
from reports.figures import curves, intervals, look, scores
from results import costs, summary, sweeps
from tests.reports import seen
from tests.results import fake, generated

SOMETIMES = {"few_shot", "layers", "placements", "ablations", "activations", "audit"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A run in which everything was varied, reported with the metrics of the third version."""
    run = tmp_path_factory.mktemp("study")
    seen.write_study(run)
    return build.write_report(run, profile="v3")


@pytest.fixture(scope="module")
def data(study):
    return gathered.gather(study.parent.parent, None, "v3")


def sections(page):
    return re.findall(r'<section id="(\w+)">', page.read_text())


def test_every_section_is_there_in_the_order_of_the_contents(study):
    found = sections(study)
    assert [name for name in html.SECTIONS if name in found] == [name for name in found if name in html.SECTIONS]
    assert set(found) >= SOMETIMES - {"audit"} | {"ranking", "cost", "training", "cases", "published", "provenance"}


def test_what_was_not_varied_has_no_section(tmp_path):
    page = build.write_report(fake.write_run(tmp_path, fake.records(1)))
    assert not SOMETIMES & set(sections(page))
    assert {"ranking", "cost"} <= set(sections(page))


def test_every_figure_is_there_in_three_formats(study):
    names = {path.stem for path in (study.parent / "figures").iterdir()}
    wanted = "dice dice_map radar difference forest ranks significance cost few_shot layers placements ablations "
    assert names >= set(
        (
            wanted + "learning_loss learning_dice learning_validation_dice learning_samples_per_second "
            "cases_Task01_Fake activations_Task01_Fake"
        ).split()
    )
    for name in names:
        files = {kind: (study.parent / "figures" / f"{name}.{kind}").read_bytes() for kind in ("png", "svg", "pdf")}
        assert files["pdf"].startswith(b"%PDF") and b"<svg" in files["svg"]
        assert Image.open(io.BytesIO(files["png"])).width >= 4.6 * 130
    assert study.stat().st_size < 15_000_000


def test_a_figure_that_is_not_drawn_again_goes(tmp_path):
    made = fake.records(3)
    run = fake.write_run(tmp_path, made)
    build.write_report(run)
    assert (run / "report" / "figures" / "radar.pdf").exists()
    for record in made[3:]:
        (run / "trials" / f"{record.spec.key}.json").unlink()
    build.write_report(run)
    assert not list((run / "report" / "figures").glob("radar.*"))
    assert not list((run / "report" / "figures").glob("cases_Task03*"))


def test_the_third_profile_has_its_columns_and_intervals_on_hover(study):
    source = study.read_text()
    table = source[source.index('data-name="by_task"') :]
    heads = re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', table[: table.index("</thead>")])
    surfaces = ["HD95 ↓ (mm)", "penalised HD95 ↓ (mm)", "NSD"]
    assert heads[1:8] == ["Dice", "Jaccard", *surfaces, "Sensitivity", "Specificity"]
    assert re.search(r'title="95 % interval 0\.\d{3} to [01]\.\d{3}, over 6 cases\nSD over 2 seeds', table)
    frame = pd.read_csv(study.parent / "tables" / "by_task.csv")
    assert "hd95_mean" in frame and "accuracy_mean" not in frame
    assert {"statistics_hd95", "statistics_nsd"} <= {path.stem for path in (study.parent / "tables").iterdir()}


def test_less_distance_is_bold():
    rows = pd.DataFrame({"task": "T", "arm": ["a", "b"], "complete": 1, "n of expected": "1 of 1", "cases": 2})
    for name in summary.METRICS:
        rows[f"{name}_mean"], rows[f"{name}_sd"], rows[f"{name}_difference"] = [3.0, 4.0], 0.1, 0.5
    found = build.tables.best(rows, "task", ("dice", "hd95"))
    assert found["dice"].tolist() == [False, True] and found["hd95"].tolist() == [True, False]
    row = build.tables.score_table("by_task", "", rows, {}, metrics=("hd95",)).groups[0].rows[0]
    assert (row[1].text, row[1].note) == ("3.00 ± 0.10", "+0.50")


def test_an_unknown_profile_is_said(tmp_path):
    with pytest.raises(build.ReportError, match="unknown profile 'v4'; known: paper, v3"):
        build.write_report(fake.write_run(tmp_path, fake.records(1)), profile="v4")


def test_ranks_and_stability_as_tables(data):
    table = rank_tables.ranks_table(data.ranks)
    assert [row[0].text for row in table.groups[0].rows] == data.ranks["arm"].tolist()
    assert re.fullmatch(r"\d\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", table.groups[0].rows[0][1].text)
    assert rank_tables.stability_table(data.stability).groups[0].title == "All tasks"
    map_ = rank_tables.significance_table(data.significance)
    assert map_.columns == ("Arm", "Task01_Fake", "Task02_Fake", "Task03_Fake")


def test_sweeps_keep_what_was_not_swept_apart(data):
    fractions = data.sweep("fraction")
    assert set(fractions["x"]) == {0.1, 1.0} and (fractions.groupby(["task", "family"]).size() == 2).all()
    layers = data.sweep("layer")
    assert set(layers["x"]) == {7, 31} and not layers["family"].str.contains("@").any()
    assert "none" not in set(layers["control"]) and layers["baseline"].notna().all()
    places = data.sweep("placement")
    assert list(dict.fromkeys(places["x"])) == ["middle", "after"]
    assert sweep_tables.sweep_table(places, "placement").groups[0].rows[0][1].text == "middle"


def test_only_variants_of_one_kind_are_ablations(data):
    rows = data.ablations
    assert set(rows["attention"]) == {"hybrid", "global"}
    assert not rows["arm"].str.contains("@7|placement middle|10% of cases").any()
    assert len(rows) == 2 * 3
    table = sweep_tables.ablation_table(rows, data.modalities)
    assert table.columns[1] == "Attention" and table.groups[0].title == "none"


def test_cost_by_hand():
    base = fake.records(2, fake.REAL_ARMS)
    gpu = {"device": "cuda:0", "workers": 2}
    made = [replace(one, provenance=one.provenance | {"threads": 4, "device": "cpu"}) for one in base]
    made[3:] = [replace(one, provenance=one.provenance | gpu) for one in made[3:]]
    trials = summary.trial_table(made)
    modalities = summary.by_modality(summary.by_task(summary.case_scores(summary.long_table(made), trials), trials))
    row = costs.by_arm(made, trials, modalities).iloc[0]
    seconds = fake.COST["train_seconds"] + fake.COST["score_seconds"]
    assert row["hours"] == pytest.approx(seconds * 4 / 3600 + seconds * 2 / 3600)
    assert row["unit"] == "GPU hours and core hours" and row["hours_a_trial"] == pytest.approx(row["hours"] / 2)
    assert row["dice_an_hour"] == pytest.approx(row["dice"] / row["hours_a_trial"])
    assert row["most_parameters"] == fake.COST["trainable_parameters"] + fake.COST["frozen_parameters"]


def test_cost_that_no_record_tells_is_missing():
    made = [replace(one, cost={}, provenance={}) for one in fake.records(1)]
    trials = summary.trial_table(made)
    modalities = summary.by_modality(summary.by_task(summary.case_scores(summary.long_table(made), trials), trials))
    found = costs.by_arm(made, trials, modalities)
    assert found[["hours", "dice_an_hour", "most_parameters", "seconds_a_step"]].isna().all().all()


def test_empty_masks_are_counted_on_the_page(tmp_path):
    made = fake.records(1)
    nothing = replace(made[0].cases[0], tp=0, fp=0, nsd=0.0, hd95=None)
    made[0] = replace(made[0], cases=(nothing, *made[0].cases[1:]))
    page = build.write_report(fake.write_run(tmp_path, made, previews=False))
    assert "audit" in sections(page)
    rows = pd.read_csv(page.parent / "tables" / "audit.csv")
    assert rows["prediction empty"].sum() == 1 and "Prediction empty" in (page.parent / "report.md").read_text()


def test_significant_differences_are_filled_and_the_map_has_signs():
    frame, trials = generated.study(tasks=3, cases=20, noise=0.03, gain={"pretrained": 0.2, "random": -0.15})
    asked = build.answers.ask(frame, trials, set())
    arms = summary.arms(trials)
    figure = intervals.forest(asked.comparisons, asked.overall, arms)
    assert len(figure.axes) == 4 and figure.axes[0].get_title() == "All tasks"
    from results import ranking

    found = ranking.significance_map(asked.comparisons)
    signs = {text.get_text() for text in intervals.significance(found, arms).axes[0].texts}
    assert signs == {"+", "−", "·"}


def test_no_two_of_many_arms_look_alike():
    assert len({str(look.look(number)) for number in range(200)}) == 200


def test_curves_are_a_mean_and_a_band_over_trials():
    made = fake.records(1, fake.REAL_ARMS, seeds=3)
    made = [replace(one, curve=({"step": 1, "loss": float(n), "dice": None},) * 1) for n, one in enumerate(made)]
    trials = summary.trial_table(made)
    figure = curves.learning_curves(made, trials, summary.arms(trials), "loss")
    (panel,) = figure.axes
    assert [line.get_ydata()[0] for line in panel.lines] == [1.0, 4.0, 7.0] and len(panel.collections) == 3
    assert curves.learning_curves(made, trials, summary.arms(trials), "dice") is None


def test_a_validation_dice_is_drawn_where_there_is_one():
    old, new = ({"step": step, "loss": 1.0, "dice": 0.5} for step in (10, 20))
    one = replace(fake.records(1, fake.REAL_ARMS)[0], curve=(old, new | {"validation_dice": 0.25}))
    trials = summary.trial_table([one])
    figure = curves.learning_curves([one], trials, summary.arms(trials), "validation_dice")
    (line,) = figure.axes[0].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([20], [0.25])
    assert figure.axes[0].get_ylabel() == "validation Dice"
    of_before = replace(one, curve=(old, new))
    assert curves.learning_curves([of_before], trials, summary.arms(trials), "validation_dice") is None


def test_samples_a_second_are_of_each_epoch_that_was_measured_whole():
    points = tuple({"step": step, "loss": 1.0, "dice": None} for step in (10, 20, 30))
    one = fake.records(1, fake.REAL_ARMS)[0]
    one = replace(one, curve=points, spec=replace(one.spec, train={"batch": 4}))
    cost = one.cost | {"epoch_seconds": [None, 5.0, 10.0]}  # taken up again in the first
    trials = summary.trial_table([one])
    figure = curves.learning_curves([replace(one, cost=cost)], trials, summary.arms(trials), "samples_per_second")
    (line,) = figure.axes[0].lines
    assert list(line.get_xdata()) == [20, 30] and list(line.get_ydata()) == [8.0, 4.0]
    assert figure.axes[0].get_ylabel() == "samples a second"
    without = replace(one, cost={})
    assert curves.learning_curves([without], trials, summary.arms(trials), "samples_per_second") is None


def test_a_radar_needs_three_tasks():
    for tasks, drawn in ((2, False), (3, True)):
        made = fake.records(tasks)
        trials = summary.trial_table(made)
        by_task = summary.by_task(summary.case_scores(summary.long_table(made), trials), trials)
        assert (scores.radar(by_task, summary.arms(trials)) is not None) == drawn


def test_nothing_swept_is_no_sweep():
    frame, trials = generated.study(tasks=1)
    from results import statistics

    means = statistics.means(frame, trials)
    for of in sweeps.SWEPT:
        points = sweeps.sweep(trials, means, of)
        assert points.empty and curves.sweep(points, of) is None
    assert sweeps.ablations(trials, means).empty


def test_damaged_activations_are_said_and_stop_nothing(tmp_path):
    made = seen.write_run(tmp_path, cases=2, size=(16, 18, 8))
    seen.write_activations(tmp_path, made)
    first, second, third = (tmp_path / "activations" / f"{record.spec.key}.npz" for record in made)
    first.write_bytes(b"no archive")
    with np.load(second) as arrays:
        np.savez(second, **{name: array[:3] if name == "encoder_0" else array for name, array in arrays.items()})
    text = build.write_report(tmp_path).read_text()
    assert f"activations {first} cannot be used" in text and f"activations {second} do not lie on the slice" in text
    assert 'data-name="activations"' in text and third.exists()


def test_activations_show_the_stages_that_an_arm_has(tmp_path):
    made = seen.write_run(tmp_path, cases=2, size=(16, 18, 8))
    seen.write_activations(tmp_path, made)
    trials = summary.trial_table(made)
    (task,), problems = activations.read(tmp_path, build.shown.shown_trials(made, trials), trials)
    assert not problems and [list(one.maps) for one in task.arms] == [
        ["encoder"],
        *[["before", "block", "encoder"]] * 2,
    ]
    figure = activations.draw(task, "a warning")
    heads = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_xticklabels()]
    assert heads == ["image", "into the block", "out of the block", "end of the encoder"]
    rows = activations.table([task]).groups[0].rows
    assert [cell.text for cell in rows[0]] == ["none", "0.900", "0.600", "–"] and rows[1][3].text == "2.5"
