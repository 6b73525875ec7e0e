"""The three questions, their statistics, and what papers have published: as tables.

What is computed stands in `results.statistics` and `results.verdicts`; here it is only written down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from reports.tables import MISSING, Cell, Group, Table, heading, signed
from results import published, statistics, verdicts

_METRIC = "dice"
#: More arms than this are counted in the first sentence, but for those that gain.
_MANY = 4
_QUESTION = {
    "baseline": "the baseline",
    "random": "its random twin",
    "mlp": "the matched MLP",
    "depth": "the matched depth",
    "shuffled": "the shuffled block",
    "identity": "the mappers alone",
}


@dataclass(frozen=True)
class Answers:
    """comparisons and overall: `results.statistics.comparisons` and `over_tasks`; verdicts: of both together.

    All of them are by Dice. others: metric → its comparisons, of those that were asked for beside it.
    """

    comparisons: pd.DataFrame
    overall: pd.DataFrame
    verdicts: pd.DataFrame
    others: dict[str, pd.DataFrame] = field(default_factory=dict)


def ask(frame: pd.DataFrame, trials: pd.DataFrame, phantom: set[str], others: Iterable[str] = ()) -> Answers:
    """Answer the questions of a run: frame and trials of `results.summary`, phantom the tasks that are generated.

    others: metrics of which the comparisons are wanted too.
    """
    comparisons = statistics.comparisons(frame, trials, _METRIC)
    overall = statistics.over_tasks(frame, trials, _METRIC)
    rows = [part for part in (overall[overall["modality"] == statistics.ALL], comparisons) if len(part)]
    both = pd.concat(rows) if rows else comparisons
    more = {metric: statistics.comparisons(frame, trials, metric) for metric in others}
    return Answers(comparisons, overall, verdicts.verdicts(both, phantom), more)


def answers_table(answers: Answers) -> Table:
    """The first page: an arm's three answers over all tasks, and what they come to."""
    overall = answers.verdicts["task"] == statistics.ALL
    return _answers_table("answers", _ANSWERS, answers, answers.verdicts[overall])


def answers_by_task(answers: Answers) -> Table:
    """The same task by task."""
    by_task = answers.verdicts["task"] != statistics.ALL
    return _answers_table("answers_by_task", _BY_TASK, answers, answers.verdicts[by_task])


def _answers_table(name: str, caption: str, answers: Answers, rows: pd.DataFrame) -> Table:
    told = pd.concat([answers.overall[answers.overall["modality"] == statistics.ALL], answers.comparisons])
    numbers = {(row.task, row.arm, row.question): row for row in told.itertuples(index=False)}
    groups = []
    for task, part in rows.groupby("task", sort=False):
        members = tuple(_answer_row(row, numbers) for row in part.itertuples(index=False))
        groups.append(Group("All tasks" if task == statistics.ALL else str(task), members))
    columns = ("Arm", *(question.removesuffix("?") + "?" for question in verdicts.ASKED.values()), "Verdict")
    return Table(name, caption, columns, tuple(groups), rows)


def sentence(answers: Answers) -> str:
    """What the answers come to over all tasks: an arm a clause, or, of many arms, a verdict a clause."""
    overall = answers.verdicts[answers.verdicts["task"] == statistics.ALL]
    told = [f"{row.arm}: {_verdict(row)}" for row in overall.itertuples(index=False)]
    if len(told) > _MANY:
        named = overall["gain"] | (overall.groupby("verdict")["arm"].transform("size") == 1)
        rows = overall.assign(words=[_verdict(row) for row in overall.itertuples(index=False)], named=named)
        told = [
            f"{words}: {'; '.join(part['arm']) if part['named'].all() else f'{len(part)} arms'}"
            for words, part in rows.groupby("words", sort=False)
        ]
    return f"Is it the pre-training? {'; '.join(told)}." if told else ""


def _verdict(row: object) -> str:
    verdict = str(row.verdict)  # type: ignore[attr-defined]
    return f"{verdict} ({row.because})" if verdict == verdicts.Verdict.BARRED else verdict  # type: ignore[attr-defined]


def _answer_row(row: object, numbers: dict[tuple[str, str, str], object]) -> tuple[Cell, ...]:
    cells = []
    for question in verdicts.ASKED:
        found = numbers.get((row.task, row.arm, question))  # type: ignore[attr-defined]
        cells.append(Cell(str(getattr(row, question)), note=_interval(found) if found else ""))
    verdict = str(row.verdict)  # type: ignore[attr-defined]
    because = str(row.because) if verdict == verdicts.Verdict.BARRED else ""  # type: ignore[attr-defined]
    return (Cell(str(row.arm)), *cells, Cell(verdict, bold=bool(row.gain), note=because))  # type: ignore[attr-defined]


def _interval(row: object) -> str:
    """`+0.012 [−0.003, +0.027]`, without the interval where there is none."""
    mean, low, high = (getattr(row, name) for name in ("mean", "low", "high"))
    if pd.isna(mean):
        return ""
    return signed(mean) if pd.isna(low) else f"{signed(mean)} [{signed(low)}, {signed(high)}]"


def comparisons_table(answers: Answers) -> Table:
    """Every comparison by task: the difference with its interval, the tests, and what could have been shown."""
    return _comparisons_table("statistics", answers.comparisons, _STATISTICS.format("Dice"))


def more_comparisons(answers: Answers) -> list[Table]:
    """The same in the metrics that were asked for beside Dice."""
    return [
        _comparisons_table(
            f"statistics_{metric}", rows, f"The same in {heading(metric)}. {_STATISTICS.format(heading(metric))}"
        )
        for metric, rows in answers.others.items()
    ]


def _comparisons_table(name: str, rows: pd.DataFrame, caption: str) -> Table:
    groups = []
    for task, part in rows.groupby("task", sort=False):
        groups.append(Group(str(task), tuple(_comparison(row) for row in part.itertuples(index=False))))
    columns = (
        *("Arm", "Against", "n", "Mean difference [95 %]", "Median"),
        *("p (Wilcoxon)", "p (Holm)", "Effect", "Detectable", "Note"),
    )
    return Table(name, caption, columns, tuple(groups), rows, frozenset(columns[2:9]))


def _comparison(row: object) -> tuple[Cell, ...]:
    def number(name: str, form: str) -> str:
        value = getattr(row, name)
        return MISSING if pd.isna(value) else format(value, form)

    median = row.median  # type: ignore[attr-defined]
    texts = (
        str(row.arm),  # type: ignore[attr-defined]
        _QUESTION[row.question],  # type: ignore[attr-defined]
        f"{row.n} {row.unit}s",  # type: ignore[attr-defined]
        _interval(row) or MISSING,
        MISSING if pd.isna(median) else signed(median),
        *(number(name, ".4f") for name in ("p", "p_holm")),
        number("effect", "+.2f"),
        number("detectable", ".3f"),
        str(row.note),  # type: ignore[attr-defined]
    )
    return tuple(Cell(text) for text in texts)


def published_table() -> Table:
    """The numbers of papers, each with its protocol. They are never in one column with those of the run."""
    frame = published.load()
    groups = []
    for source, part in frame.groupby("source", sort=False):
        rows = tuple(_published(row) for row in part.itertuples(index=False))
        groups.append(Group(str(source), rows, str(part["protocol"].iloc[0])))
    columns = ("System", "Task", "Metric", "Value", "Place")
    return Table("published", _PUBLISHED, columns, tuple(groups), frame, frozenset(("Value",)))


def _published(row: object) -> tuple[Cell, ...]:
    value, sd = row.value, row.sd  # type: ignore[attr-defined]
    shown = "unknown" if pd.isna(value) else f"{value:g}" + ("" if pd.isna(sd) else f" ± {sd:g}")
    unit = "" if row.unit == "ratio" else f" {row.unit}"  # type: ignore[attr-defined]
    task = ", ".join(filter(None, (row.task.replace("_", " "), row.label)))  # type: ignore[attr-defined]
    parts = (row.system, task, row.metric, shown + unit * (shown != "unknown"), row.place)  # type: ignore[attr-defined]
    return tuple(Cell(str(part)) for part in parts)


_ANSWERS = (
    "Three questions, in this order, by Dice. Yes: the 95 % interval of the paired difference (bootstrap, 10,000 "
    "draws) is above 0 and the Wilcoxon p after Holm's correction is below 0.05; both are needed, for with few cases "
    "such intervals are too narrow (83 % hold the truth with 6 cases, 88 % with 12); fewer than 6 pairs give no p. "
    "Only an arm that wins all three gains from pre-training. Small print: mean difference and its interval."
)
_BY_TASK = "The three questions task by task; yes, no and small print as over all tasks."
_STATISTICS = (
    "Paired differences in {}, arm minus other, on the same cases: seeds are averaged within a case, and cases "
    "within a patient where patients have several (n counts the units). Interval: BCa bootstrap of the mean, 10,000 "
    "draws, seeded. p: Wilcoxon signed-rank; Holm over all tasks and backbones of a question. Effect: matched-pairs "
    "rank-biserial correlation. Detectable: the mean difference that this many pairs had 80 % power to show, before "
    "Holm. With few cases BCa intervals are too narrow: in simulations they held the truth 83 times in 100 with 6 "
    "cases and 88 times with 12, not 95. So a difference is called shown only where interval and corrected p agree."
)
_PUBLISHED = (
    "Numbers that papers have published, each under its own protocol, which is not that of this page: other splits, "
    "labels or test sets. They are here to be known, not to be compared in one column. Unknown is not known to us."
)
