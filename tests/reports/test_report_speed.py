"""The measurements of `tests.speed.reports` at tiny size, and the run they are made of."""

from __future__ import annotations

import pytest

from bench import plan
from results import store, summary
from results.record import Status
from tests.results import large_run
from tests.speed import reports

TINY = large_run.Size(tasks=1, arms=4, seeds=2, folds=1, cases=3)


@pytest.fixture
def told(monkeypatch):
    """Reports are made in this process, and counted."""
    made: list[str] = []

    def here(module: str, function: str, run: str) -> dict[str, float]:
        made.append(run)
        return getattr(reports, function)(run)

    monkeypatch.setattr(reports, "fresh", here)
    monkeypatch.setattr(reports, "ONCE", TINY)
    monkeypatch.setattr(reports, "TWICE", large_run.Size(tasks=2, arms=4, seeds=2, folds=1, cases=3))
    yield made
    reports.reports.cache_clear()
    reports.folder.cache_clear()


def test_every_measurement_reads_the_same_reports(told):
    seconds = reports.report_time(1)
    memory = reports.report_memory(1)
    page = reports.report_page(1)
    growth = reports.report_growth(1)
    assert len(told) == 2 == len(set(told))
    assert growth.peer == seconds.ours > 0 and growth.ours > 0 and "GB" in growth.note
    assert memory.ours > 50e6 and 50_000 < page.ours < reports.PAGE


def test_the_bar_is_over_2000_trials_and_200000_scores():
    assert reports.ONCE.trials == 2000 and reports.TWICE.trials == 4000
    assert reports.ONCE.trials * reports.ONCE.cases * 2 == 200_000
    assert (reports.SECONDS, reports.GROWTH, reports.MEMORY, reports.PAGE) == (60, 2.2, 1.5e9, 15e6)


def test_generated_runs_are_runs_and_hold_the_differences_they_name(tmp_path):
    size = large_run.Size(tasks=2, arms=4, seeds=2, folds=2, cases=40)
    run = large_run.write(tmp_path / "run", size)
    records = store.read(run)
    assert {r.spec.digest: r for r in records} == {r.spec.digest: r for r in large_run.records(size)}
    assert len(records) == size.trials == 32 and {record.status for record in records} == {Status.COMPLETE}
    assert {spec.digest for spec in plan.expected(run)} == {record.spec.digest for record in records}
    trials = summary.trial_table(records)
    tasks = summary.by_task(summary.case_scores(summary.long_table(records), trials), trials)
    for row in tasks[tasks["control"] != "none"].itertuples():
        assert row.dice_difference == pytest.approx(large_run.GAINS[row.backbone, row.control], abs=0.01)
