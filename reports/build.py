"""A run folder to its report: `report/index.html`, `report.md`, `tables/` and `figures/`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports import answers, cases, controls, facts, figures, formats, html, listings, shown, tables, viewer
from results import store, summary
from results.record import TrialResult, TrialSpec

_DOTS_PER_INCH = 130
#: In inches: wider figures are not shrunk to a phone's screen.
_WIDE = 7.0


class ReportError(ValueError):
    """A report that cannot be made; the message says of which folder and what would work."""


@dataclass(frozen=True)
class _Run:
    """A run as the report sees it: its records and the frames made of them."""

    folder: Path
    records: Sequence[TrialResult]
    trials: pd.DataFrame
    frame: pd.DataFrame
    scores: pd.DataFrame
    tasks: pd.DataFrame
    modalities: pd.DataFrame


def write_report(
    run: Path, *, title: str | None = None, expected: Iterable[TrialSpec] | None = None, command: str
) -> Path:
    """Write the report of a run folder, `results.csv` and `results.parquet` beside it; return the page's path.

    expected is the plan, against which `n of expected` counts (left out: the trials that have a record). command is
    the line that makes the run again. Raises ReportError where no trial has a record, and what `store.read` raises.
    """
    data = _read(Path(run), expected)
    summary.write_results(data.folder, data.frame)
    told = facts.gather(
        title or f"{data.folder.resolve().name}: frozen blocks in a segmenter", data.records, data.trials, data.frame
    )
    folder = data.folder / "report"
    phantoms = {record.task.name for record in data.records if record.task.origin == "phantom"}
    asked = answers.ask(data.frame, data.trials, phantoms)
    made = _tables(data, told, asked, phantoms)
    for table in made.values():
        store.atomic_write(folder / "tables" / f"{table.name}.csv", formats.csv(table).encode())
        store.atomic_write(folder / "tables" / f"{table.name}.tex", formats.latex(table, told.banner).encode())
    pictured = shown.shown_trials(data.records, data.trials)
    with figures.style():
        pictures, problems = _pictures(data, told, pictured, folder / "figures")
    held = _write_viewer(data, told, pictured, folder / "viewer.html")
    top = html.Answers(answers.sentence(asked), made["answers"]) if not made["answers"].empty else None
    page = html.Page(told, _short(data.modalities), made, pictures, problems, command, top, held)
    store.atomic_write(folder / "report.md", html.render_markdown(page, folder).encode())
    path = folder / "index.html"
    store.atomic_write(path, html.render(page).encode())
    return path


def _read(run: Path, expected: Iterable[TrialSpec] | None) -> _Run:
    records = store.read(run)
    if not records:
        raise ReportError(f"no trial record in {run / 'trials'}; give the folder that `bench run --out` wrote")
    trials = summary.trial_table(records, expected)
    frame = summary.long_table(records)
    scores = summary.case_scores(frame, trials)
    tasks = summary.by_task(scores, trials)
    return _Run(run, records, trials, frame, scores, tasks, summary.by_modality(tasks))


def _tables(data: _Run, told: facts.Facts, asked: answers.Answers, phantoms: set[str]) -> dict[str, tables.Table]:
    heads = {
        row.task: f"{row.task} · {row.modality}" + " · phantom data" * (row.task in phantoms)
        for row in data.tasks.itertuples()
    }
    modalities = {"all": "All tasks"}
    made = (
        answers.answers_table(asked),
        answers.comparisons_table(asked),
        answers.published_table(),
        listings.data_table(data.records),
        tables.score_table("by_task", _BY_TASK, data.tasks, heads, told.notices),
        tables.score_table("by_modality", _BY_MODALITY, data.modalities, modalities),
        controls.controls_table(data.records, data.trials, data.modalities),
        listings.cost_table(data.records, data.trials),
        listings.failure_table(data.records, data.trials),
        listings.weights_table(data.records, data.trials),
        listings.settings_table(data.records),
        listings.provenance_table(data.records),
    )
    return {table.name: table for table in made}


def _short(modalities: pd.DataFrame) -> tables.Table:
    """The table of the first screen: an arm's mean Dice over all tasks."""
    rows = modalities[modalities["modality"] == "all"]
    full = tables.score_table(
        "overview",
        "Dice: mean over all tasks ± SD over tasks, and the difference to the baseline. Bold: best complete arm.",
        rows,
        {},
    )
    groups = tuple(tables.Group("", tuple((row[0], row[1], row[-1]) for row in group.rows)) for group in full.groups)
    return tables.Table(
        full.name, full.caption, (*full.columns[:2], full.columns[-1]), groups, full.frame, full.numbers
    )


def _write_viewer(data: _Run, told: facts.Facts, pictured: pd.DataFrame, path: Path) -> str:
    """Write the case viewer and say what is in it; an older one goes, and nothing is said, where no case is to see."""
    found = viewer.collect([data.folder], data.records, pictured)
    if not found.cases:
        path.unlink(missing_ok=True)
        return ""
    text = viewer.render(found, told.title, told.banner).encode()
    store.atomic_write(path, text)
    return viewer.summary(found, len(text))


def _pictures(
    data: _Run, told: facts.Facts, pictured: pd.DataFrame, folder: Path
) -> tuple[list[html.Picture], list[str]]:
    """Draw and save every figure that there is data for; also what is missing, in sentences."""
    arms = summary.arms(data.trials)
    warning = told.banner
    drawn: list[tuple[str, tuple[str, str, str], Figure | None]] = []
    if not data.scores.empty:
        drawn.append(("dice", _DICE, figures.dice_by_task(data.scores, arms, warning)))
        drawn.append(("difference", _DIFFERENCE, figures.difference_map(data.tasks, arms, warning)))
    for value, words in (("loss", _LOSS), ("dice", _TRAINING_DICE)):
        curves = figures.learning_curves(data.records, data.trials, value, warning)
        drawn.append((f"learning_{value}", words, curves))
    previews, problems = cases.task_cases([data.folder], pictured, data.trials)
    infos = {record.task.name: record.task for record in data.records}
    for task, shown_cases in previews.items():
        notice = told.notices.get(task, "")
        below = " ".join(dict.fromkeys(text for text in (warning, notice) if text))
        figure = cases.overlay(shown_cases, infos[task].labels, below)
        caption = f"{shown_cases.caption} {notice}".strip()
        drawn.append((f"cases_{task}", (task, caption, "cases"), figure))
    return [_save(folder, name, words, figure) for name, words, figure in drawn if figure is not None], problems


def _save(folder: Path, name: str, words: tuple[str, str, str], figure: Figure) -> html.Picture:
    stem = folder / name.replace("/", "_")
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
        figure.set_layout_engine("none")  # laid out once: the second file is made in half the time
        store.atomic_write(stem.with_name(f"{stem.name}.{kind}"), buffer.getvalue())
    return html.Picture(stem, *words, wide=figure.get_figwidth() > _WIDE)


_BOLD = (
    "The best mean of a group is bold (all of them where equal; an arm with fewer complete trials does not compete). "
    "With a mean stands the difference to the baseline none, paired on the same cases."
)
_BY_TASK = (
    "Mean ± SD over held-out cases. Seeds are averaged within a case and class, then cases, then classes; "
    f"the SD is over cases, classes averaged. Background is in no mean. {_BOLD} n of expected counts complete trials."
)
_BY_MODALITY = f"Mean ± SD over tasks. {_BOLD} n of expected counts complete trials."
_DICE = (
    "Dice by task",
    "A small point is a held-out case, its classes averaged; the large one is the arm's mean.",
    "by_task",
)
_DIFFERENCE = ("Difference to the baseline", "Mean Dice minus that of none on the same cases.", "by_task")
_LOSS = ("Training loss", "Mean over the training crops of an epoch, a line a trial.", "training")
_TRAINING_DICE = ("Training Dice", "On training crops, not on held-out cases; a line a trial.", "training")
