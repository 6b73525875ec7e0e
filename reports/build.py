"""A run folder to its report: `report/index.html`, `report.md`, `tables/` and `figures/`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from reports import (
    activations,
    album,
    answers,
    audit_table,
    controls,
    drawing,
    facts,
    formats,
    html,
    listings,
    rank_tables,
    shown,
    sweep_tables,
    tables,
    viewer,
)
from reports.figures import look
from reports.gathered import Gathered, gather
from reports.gathered import ReportError as ReportError
from results import store, summary
from results.record import TrialResult, TrialSpec


def write_report(
    run: Path,
    *,
    title: str | None = None,
    expected: Iterable[TrialSpec] | None = None,
    command: str | None = None,
    profile: str = "paper",
) -> Path:
    """Write the report of a run folder, `results.csv` and `results.parquet` beside it; return the page's path.

    expected is the plan, against which `n of expected` counts (left out: the trials that have a record). command is
    the line that makes the run again (left out: those that its records tell). profile: one of `metrics.PROFILES`.
    Raises ReportError where no trial has a record, and what `store.read` raises.
    """
    data = gather(Path(run), expected, profile)
    summary.write_results(data.folder, data.frame)
    told = facts.gather(
        title or f"{data.folder.resolve().name}: frozen blocks in a segmenter", data.records, data.trials, data.frame
    )
    folder = data.folder / "report"
    pictured = shown.shown_trials(data.records, data.trials)
    maps, problems = activations.read(data.folder, pictured, data.trials)
    made = _tables(data, told, maps)
    _write_tables(folder / "tables", made, told.banner)
    with look.style():
        pictures = album.save_all(folder / "figures", drawing.drawn(data, told, pictured, maps, problems))
    held = _write_viewer(data, told, pictured, folder / "viewer.html")
    top = _top(data.asked, made)
    lines = _commands(data.records) if command is None else command
    page = html.Page(told, _short(data.modalities), made, pictures, problems, lines, top, held)
    store.atomic_write(folder / "report.md", html.render_markdown(page, folder).encode())
    path = folder / "index.html"
    store.atomic_write(path, html.render(page).encode())
    return path


def _top(asked: answers.Answers, made: dict[str, tables.Table]) -> html.Answers | None:
    if made["answers"].empty:
        return None
    return html.Answers(answers.sentence(asked), made["answers"], made["answers_by_task"])


def _commands(records: Iterable[TrialResult]) -> str:
    commands = dict.fromkeys(str(record.provenance.get("command", "")) for record in records)
    return "\n".join(filter(None, commands))


def _tables(data: Gathered, told: facts.Facts, maps: Sequence[activations.TaskMaps]) -> dict[str, tables.Table]:
    heads = {
        row.task: f"{row.task} · {row.modality}" + " · phantom data" * (row.task in data.phantoms)
        for row in data.tasks.itertuples()
    }
    made = [
        answers.answers_table(data.asked),
        answers.answers_by_task(data.asked),
        answers.comparisons_table(data.asked),
        *answers.more_comparisons(data.asked),
        answers.published_table(),
        listings.data_table(data.records),
        _score_table("by_task", _BY_TASK, data, heads, told.notices),
        _score_table("by_modality", _BY_MODALITY, data, {"all": "All tasks"}),
        controls.controls_table(data.records, data.trials, data.modalities),
        listings.cost_table(data.costs),
        listings.failure_table(data.records, data.trials),
        listings.weights_table(data.records, data.trials),
        listings.settings_table(data.records),
        listings.provenance_table(data.records),
    ]
    return {table.name: table for table in (*made, *_where_run(data, maps))}


def _where_run(data: Gathered, maps: Sequence[activations.TaskMaps]) -> Iterable[tables.Table]:
    """The tables that only some studies have something for."""
    made = [
        _label_table(data),
        audit_table.audit_table(data.frame, data.trials),
        rank_tables.ranks_table(data.ranks),
        rank_tables.significance_table(data.significance),
        rank_tables.stability_table(data.stability),
        *(sweep_tables.sweep_table(data.sweep(of), of) for of in ("fraction", "layer", "placement")),
        sweep_tables.ablation_table(data.ablations, data.modalities),
        activations.table(maps),
    ]
    return [table for table in made if not table.empty]


def _label_table(data: Gathered) -> tables.Table:
    metrics = [name for name in data.metrics if name in ("dice", "nsd", "hd95")]
    return tables.score_table("by_label", _BY_LABEL, data.labels, {}, metrics=metrics)


def _score_table(
    name: str, caption: str, data: Gathered, titles: dict[str, str], notices: dict[str, str] | None = None
) -> tables.Table:
    scores = data.tasks if name == "by_task" else data.modalities
    hovers = tables.hovers(data.means, str(scores.columns[0]))
    return tables.score_table(name, caption, scores, titles, notices, data.metrics, hovers)


def _write_tables(folder: Path, made: dict[str, tables.Table], banner: str) -> None:
    """Each as CSV and LaTeX; a file of an earlier report whose table is not made again goes."""
    for table in made.values():
        store.atomic_write(folder / f"{table.name}.csv", formats.csv(table).encode())
        store.atomic_write(folder / f"{table.name}.tex", formats.latex(table, banner).encode())
    for path in (*folder.glob("*.csv"), *folder.glob("*.tex")):
        if path.stem not in made:
            path.unlink()


def _short(modalities: pd.DataFrame) -> tables.Table:
    """The table of the first screen: an arm's mean Dice over all tasks."""
    rows = modalities[modalities["modality"] == "all"]
    full = tables.score_table(
        "overview",
        "Dice: mean over all tasks ± SD over tasks, and the difference to the baseline. Bold: best complete arm.",
        rows,
        {},
        metrics=("dice",),
    )
    groups = tuple(tables.Group("", tuple((row[0], row[1], row[-1]) for row in group.rows)) for group in full.groups)
    return tables.Table(
        full.name, full.caption, (*full.columns[:2], full.columns[-1]), groups, full.frame, full.numbers
    )


def _write_viewer(data: Gathered, told: facts.Facts, pictured: pd.DataFrame, path: Path) -> str:
    """Write the case viewer and say what is in it; an older one goes, and nothing is said, where no case is to see."""
    found = viewer.collect([data.folder], data.records, pictured)
    if not found.cases:
        path.unlink(missing_ok=True)
        return ""
    text = viewer.render(found, told.title, told.banner).encode()
    store.atomic_write(path, text)
    return viewer.summary(found, len(text))


_BOLD = (
    "The best mean of a group is bold (all of them where equal; an arm with fewer complete trials does not compete). "
    "With a mean stands the difference to the baseline, paired on the same cases."
)
_POINT = "Point at a mean for its 95 % interval."
_BY_TASK = (
    "Mean ± SD over held-out cases. Seeds are averaged within a case and class, then cases, then classes; "
    f"the SD is over cases, classes averaged. Background is in no mean. {_BOLD} {_POINT} n of expected counts complete "
    "trials."
)
_BY_LABEL = (
    "By class, of the tasks that have several. Mean ± SD over the held-out cases in which the class has a value, seeds "
    f"averaged. {_BOLD}"
)
_BY_MODALITY = f"Mean ± SD over tasks. {_BOLD} {_POINT} n of expected counts complete trials."
