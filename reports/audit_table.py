"""The audit of empty masks as a table: what the means leave out, and what counts as 0."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.tables import Cell, Group, Table
from results import audit

_HEADS = {
    "both empty": "Both empty",
    "reference empty": "Reference empty",
    "prediction empty": "Prediction empty",
    "hd95 penalised": "Without HD95",
}


def audit_table(frame: pd.DataFrame, trials: pd.DataFrame) -> Table:
    """A group a task, a row an arm and class in which a mask was empty. The CSV has the others too.

    frame and trials: of `results.summary`.
    """
    counted = audit.audit(frame, trials)
    empty = counted[counted[list(audit.COLUMNS)].sum(axis=1) > 0]
    columns = ("Arm", "Class", "Cases", "Scores", *(_HEADS[name] for name in audit.COLUMNS))
    groups = tuple(
        Group(str(task), tuple(_row(row) for row in part.to_dict("records")))
        for task, part in empty.groupby("task", sort=False)
    )
    said = "; ".join(f"{_HEADS[name].lower()}: {text}" for name, text in audit.COLUMNS.items())
    caption = (
        "Scores (trial × case × class) of which a mask was empty, by arm and class; where none was there is no row. "
        f"{said[0].upper()}{said[1:]}."
    )
    return Table("audit", caption, columns, groups, counted, frozenset(columns[2:]))


def _row(row: dict[Any, Any]) -> tuple[Cell, ...]:
    names = ("arm", "label", "cases", "scores", *audit.COLUMNS)
    return tuple(Cell(str(row[name])) for name in names)
