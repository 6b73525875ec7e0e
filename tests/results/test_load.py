"""`results.load`: the four frames of a run, and the notebook that shows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import results
from results import store, summary
from tests.results import fake

REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = REPOSITORY / "examples" / "results.ipynb"


@pytest.fixture
def run(tmp_path):
    """Twelve trials of two tasks, three arms and two seeds; the second failed."""
    made = fake.records(2, seeds=2)
    made[1] = fake.failure(made[1].spec, made[1].task, "Traceback\nRuntimeError: broke")
    return fake.write_run(tmp_path / "run", made, previews=False)


def test_scores_are_the_long_table_with_arm_and_digest(run):
    scores = results.load(run).scores
    records = {record.spec.digest: record for record in store.read(run)}
    assert list(scores.columns) == [*summary.COLUMNS, "arm"] and len(scores) == 11 * 2 * 2
    for row in scores.itertuples():
        record = records[row.digest]
        case = next(one for one in record.cases if (one.case, one.label) == (row.case, row.label))
        assert (row.task, row.seed, row.tp, row.fn) == (record.spec.task, record.spec.seed, case.tp, case.fn)
        assert row.dice == pytest.approx(2 * case.tp / (2 * case.tp + case.fp + case.fn))
    assert set(scores["arm"]) == {"none", "llama3 (stand-in, random)", "mistral (stand-in, random)"}


def test_trials_tell_status_and_error(run):
    trials = results.load(str(run)).trials
    assert trials["status"].value_counts().to_dict() == {"complete": 11, "failed": 1}
    assert trials[trials["status"] == "failed"]["error"].tolist() == ["Traceback\nRuntimeError: broke"]
    assert set(trials[trials["status"] == "complete"]["error"]) == {""}


def test_curves_and_cost_have_a_row_an_epoch_and_a_trial(run):
    loaded = results.load(run)
    assert len(loaded.curves) == 11 * 4 and len(loaded.cost) == 11
    first = loaded.curves[loaded.curves["digest"] == loaded.curves["digest"][0]]
    assert first["step"].tolist() == [0, 10, 20, 30] and first["loss"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert first["dice"].isna().tolist() == [True, False, False, False]
    assert first["validation_dice"].isna().tolist() == [True, True, True, False]
    assert set(loaded.cost["peak_memory_bytes"]) == {512 * 2**20}
    joined = loaded.scores.merge(loaded.cost, on=["task", "arm", "seed", "fold", "digest"], validate="many_to_one")
    assert len(joined) == len(loaded.scores)


def test_a_number_that_a_cost_does_not_tell_is_missing(tmp_path):
    made = fake.records(1)
    made[0] = replace(made[0], cost={"train_seconds": 1.0, "note": "text is no number"})
    cost = results.load(fake.write_run(tmp_path, made, previews=False)).cost
    assert cost["steps"].isna().sum() == 1 and "note" not in cost


def test_where_all_failed_the_frames_are_empty_and_have_their_columns(tmp_path):
    made = [fake.failure(record.spec, record.task) for record in fake.records(1)]
    loaded = results.load(fake.write_run(tmp_path, made))
    assert len(loaded.trials) == 3 and loaded.scores.empty and loaded.curves.empty and loaded.cost.empty
    assert "dice" in loaded.scores and "loss" in loaded.curves and "arm" in loaded.cost


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(store.RecordError, match=r"no trial record in .*absent"):
        results.load(tmp_path / "absent")


def test_importing_results_imports_no_pandas():
    probe = "import sys, results; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_notebook_runs_and_keeps_no_output(run, tmp_path, monkeypatch):
    """Its cells in order, as Jupyter would run them, in a folder beside the run that it names."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert {cell["cell_type"] for cell in cells} == {"markdown", "code"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    (tmp_path / "examples").mkdir()
    (tmp_path / "runs").mkdir()
    os.symlink(run, tmp_path / "runs" / "phantom-cpu")
    monkeypatch.chdir(tmp_path / "examples")
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {}
    for number, cell in enumerate(code):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}[{number}]", "exec"), names)
    points = sum(len(drawn.get_offsets()) for drawn in names["axes"].collections)
    assert points == len(names["per_case"]) == 2 * 3 * 2
    means = names["label"].groupby(["task", "arm"]).mean()
    records = store.read(run)
    trials = summary.trial_table(records)
    tasks = summary.by_task(summary.case_scores(summary.long_table(records), trials), trials)
    theirs = tasks.set_index(["task", "arm"])["dice_mean"].reindex(means.index)
    pd.testing.assert_series_equal(means, theirs, check_names=False)
