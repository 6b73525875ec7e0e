"""Tables of ranks, of where differences are shown, and of how far seeds agree."""

from __future__ import annotations

import pandas as pd

from reports.tables import MISSING, Cell, Group, Table, interval
from results.statistics import ALL


def ranks_table(ranks: pd.DataFrame) -> Table:
    """A row an arm, the best first."""
    columns = ("Arm", "Mean rank [95 %]", "Tasks")
    rows = tuple(
        (Cell(row.arm), Cell(interval(row.mean_rank, row.low, row.high, ".2f")), Cell(str(row.tasks)))
        for row in ranks.itertuples(index=False)
    )
    caption = (
        "Rank of each arm's mean Dice, averaged over the tasks in which every arm has a score (1 is best; equals share "
        "a rank), with the middle 95 % of a bootstrap over tasks and cases."
    )
    return Table("ranking", caption, columns, (Group("", rows),) if rows else (), ranks, frozenset(columns[1:]))


def significance_table(answers: pd.DataFrame) -> Table:
    """Arm × task: is the difference to the baseline shown?"""
    by_arm = answers.T
    columns = ("Arm", *map(str, by_arm.columns))
    shown = by_arm.astype(object).where(by_arm.notna(), MISSING)
    rows = tuple((Cell(str(arm)), *(Cell(str(value)) for value in shown.loc[arm])) for arm in shown.index)
    caption = (
        "Is the arm's Dice above the baseline's, task by task. Yes and no (below) are shown differences, by interval "
        "and by Holm's p."
    )
    return Table("significance", caption, columns, (Group("", rows),) if rows else (), by_arm.reset_index())


def stability_table(stability: pd.DataFrame) -> Table:
    """Kendall's tau of each two seeds, over all tasks and by task."""
    columns = ("Seeds", "Kendall's tau", "Arms")
    groups = []
    order = sorted(dict.fromkeys(stability["task"]), key=lambda task: task != ALL)
    for task in order:
        part = stability[stability["task"] == task]
        rows = tuple(
            (
                Cell(f"{row.seed_a} and {row.seed_b}"),
                Cell(MISSING if pd.isna(row.tau) else f"{row.tau:+.2f}".replace("-", "−")),
                Cell(str(row.arms)),
            )
            for row in part.itertuples(index=False)
        )
        groups.append(Group("All tasks" if task == ALL else str(task), rows))
    caption = (
        "Stability of the ranking over seeds. Kendall's tau-b between the arms' rankings by two seeds (1: the same "
        "order, 0: none in common)."
    )
    return Table("stability", caption, columns, tuple(groups), stability, frozenset(columns[1:]))
