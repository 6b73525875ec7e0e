"""CSV and Markdown: what is written is what is read back, whatever is in the cells."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import build, formats, tables
from tests.results import fake

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
CELLS = st.lists(st.tuples(TEXT, TEXT, st.floats(allow_nan=True)), min_size=1, max_size=5)


def table_of(rows) -> tables.Table:
    return tables.plain(
        "any", "A caption | with *signs*", pd.DataFrame(rows, columns=["Name", "Text", "Value"]), ["Value"]
    )


@settings(deadline=None)
@given(CELLS)
def test_csv_is_read_back(rows):
    text = formats.csv(table_of(rows))
    back = pd.read_csv(io.StringIO(text, newline=""), keep_default_na=False, na_values={"Value": [""]})
    assert list(back.columns) == ["Name", "Text", "Value"] and len(back) == len(rows)
    plain = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
    for read, written in zip(plain.itertuples(index=False), rows, strict=True):
        assert list(read[:2]) == [re.sub("\r\n?", "\n", part) for part in written[:2]]
    pd.testing.assert_series_equal(back["Value"].astype(float), pd.Series([row[2] for row in rows], name="Value"))


def pipes(line: str) -> list[str]:
    """The cells of a row as Markdown reads it: one that is part of a cell stands right behind a backslash."""
    assert line.startswith("| ") and line.endswith(" |")
    return line[2:-2].split(" | ")


def read(cell: str) -> str:
    return html.unescape(re.sub(r"\\(.)", r"\1", cell))


@settings(deadline=None)
@given(CELLS)
def test_markdown_is_read_back_a_line_a_row(rows):
    caption, empty, head, rule, *lines = formats.markdown(table_of(rows)).splitlines()
    assert read(caption) == "A caption | with *signs*" and caption.count(r"\|") == 1 and empty == ""
    assert head == "| Name | Text | Value |" and rule == "| --- | --- | ---: |"
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert [read(cell) for cell in pipes(line)] == [" ".join(str(part).split()) for part in row]
        assert "<" not in line and not re.search(r"(?<!\\)[*`_]", line)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    made = fake.records(2)
    made[1] = fake.failure(made[1].spec, made[1].task, "Traceback | of\r\nRuntimeError: two\nlines, and a comma")
    return build.write_report(fake.write_run(tmp_path_factory.mktemp("run"), made, previews=False), command="x").parent


def test_every_table_of_a_report_is_csv_latex_and_markdown(report):
    names = {path.stem for path in (report / "tables").iterdir()}
    assert {"data", "by_task", "by_modality", "controls", "cost", "failures", "weights", "provenance"} <= names
    markdown = (report / "report.md").read_text()
    for name in names:
        frame = pd.read_csv(report / "tables" / f"{name}.csv")
        assert (
            len(frame) and rf"\label{{tab:{name.replace('_', '-')}}}" in (report / "tables" / f"{name}.tex").read_text()
        )
    for line in markdown.splitlines():
        assert not line.startswith("| ") or line.endswith(" |"), line
    failures = pd.read_csv(report / "tables" / "failures.csv")
    assert failures["Error"].tolist() == ["Traceback | of\nRuntimeError: two\nlines, and a comma"]
    assert r"Traceback \| of RuntimeError: two lines, and a comma" in markdown
