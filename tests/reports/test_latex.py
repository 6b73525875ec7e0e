"""LaTeX: every sign is set as it stands, and all of a report's tables compile and fit in a two-column paper."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import build, formats, latex, tables
from reports.latex_text import escape
from tests.results import fake

EVIL = "a_b & 100% #1 {x} $y$ ~^ \\ <|> \"q\" 'w' [z] *s* −–—→±×·… é Å ñ ß α µ 中 😀 -- ''?`!` \\input{x}"
NEEDED = ("booktabs.sty", "graphicx.sty")


def compiler() -> list[str] | None:
    """The command of a TeX that has all that the tables need, or None."""
    if shutil.which("tectonic"):
        return ["tectonic", "--only-cached", "--outdir", "."]
    if not shutil.which("pdflatex") or not shutil.which("kpsewhich"):
        return None
    found = subprocess.run(["kpsewhich", *NEEDED], capture_output=True, text=True, check=False)
    return (
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
        if found.returncode == 0
        else None
    )


needs_tex = pytest.mark.skipif(
    compiler() is None, reason=f"no pdflatex or tectonic here that has {' and '.join(NEEDED)}"
)


def compile_paper(folder: Path, body: str, options: str = "twocolumn") -> str:
    """Compile a paper that holds body, and return TeX's log."""
    head = rf"\documentclass[{options}]{{article}}\usepackage{{booktabs}}\usepackage{{graphicx}}\begin{{document}}x"
    (folder / "paper.tex").write_text("\n".join([head, body, r"\end{document}"]))
    done = subprocess.run(
        [*compiler(), "paper.tex"],
        cwd=folder,
        env=os.environ | {"TEXMFVAR": str(folder / "fonts"), "VARTEXFONTS": str(folder / "fonts")},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and (folder / "paper.pdf").read_bytes().startswith(b"%PDF"), done.stdout[-3000:]
    return done.stdout


@given(st.text(max_size=40))
def test_any_text_becomes_ascii_without_a_bare_special_sign(text):
    shown = escape(text)
    assert shown.isascii() and "\n" not in shown
    bare = re.sub(r"\$\\?[a-zA-Z{}^0-9\\-]+\$|\\[&%$#_{}]|\\[`'^~\"=.]|\\textasciicircum|\\[a-zA-Z]+", "", shown)
    assert not set(bare) & set('&%$#_~^\\"<>|'), (text, shown)
    assert shown.count("{") - shown.count(r"\{") == shown.count("}") - shown.count(r"\}")
    assert not re.search(r"--|,,|''|\?`|!`", shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.743 ± 0.051", r"0.743 $\pm$ 0.051"),
        ("−0.012", r"$-$0.012"),
        ("7–9 → CT · MRI", r"7\textendash{}9 $\rightarrow$ CT $\cdot$ MRI"),
        ("50% of_it & #2", r"50\% of\_it \& \#2"),
        ("--backbones", r"-{}-backbones"),
        ("café Å ß", r"caf\'{e} \r{A} \ss{}"),
        ("中", "{[}U+4E2D]"),
        ("two\n lines", "two lines"),
        ("[1] *", "{[}1] {*}"),
    ],
)
def test_signs(text, shown):
    assert escape(text) == shown


def score_frame(**dice: float) -> pd.DataFrame:
    frame = pd.DataFrame(
        [{"task": "Task_1", "arm": arm, "cases": 2, "complete": 2, "n of expected": "2 of 2"} for arm in dice]
    )
    for name in ("dice", "jaccard", "precision", "accuracy"):
        frame[f"{name}_mean"] = list(dice.values())
        frame[f"{name}_sd"], frame[f"{name}_difference"] = 0.1, -0.02
    return frame


def test_scores_stand_with_their_differences_below_and_the_notice_at_the_end():
    table = tables.score_table("by_task", "100% of_it", score_frame(none=0.5, b_c=0.7), {}, {"Task_1": "{$#&~^\\}"})
    text = formats.latex(table, "Phantom data.")
    assert r"\caption{Phantom data. 100\% of\_it}" in text and r"\toprule" in text and r"\bottomrule" in text
    assert r"\label{tab:by-task}" in text and r"{\textit{Task\_1}} \tabularnewline" in text
    lines = text.splitlines()
    scores = next(i for i, line in enumerate(lines) if line.startswith(r"b\_c & \textbf{0.700 $\pm$ 0.100} & "))
    assert lines[scores + 1] == " & " + " & ".join([r"{\scriptsize ($-$0.020)}"] * 4) + r" &  &  \tabularnewline"
    assert {line.count(" & ") for line in lines if " & " in line} == {6}
    assert r"\textit{Task\_1:} \{\$\#\&\textasciitilde{}\textasciicircum{}\textbackslash{}\}}" in text


def test_a_long_table_goes_on_and_loses_no_row():
    groups = tuple(
        tables.Group(f"Group {g}", tuple((tables.Cell(f"row {g} {i}"), tables.Cell(str(i))) for i in range(size)))
        for g, size in enumerate((10, 30, 100, 3))
    )
    table = tables.Table("long", "A caption.", ("Name", "N"), groups, pd.DataFrame(), frozenset({"N"}))
    text = formats.latex(table)
    floats = text.split(r"\begin{table*}")[1:]
    rows = [re.findall(r"^(row \d+ \d+) &", part, re.M) for part in floats]
    assert [row for part in rows for row in part] == [
        f"row {g} {i}" for g, n in enumerate((10, 30, 100, 3)) for i in range(n)
    ]
    assert len(floats) == 4 and max(map(len, rows)) <= 46
    assert text.count("A caption.") == 1 == text.count(r"\label") and text.count("(continued)") == 3
    assert floats[2].count("Group 2") == floats[3].count("Group 2") == 1 and "Group 1" not in floats[2]


def test_of_a_long_error_the_last_line_is_shown_in_part():
    frame = pd.DataFrame({"Error": ["Traceback\n  secret line\nRuntimeError: start " + "x " * 500 + "end"]})
    text = formats.latex(tables.plain("failures", "c", frame))
    assert "RuntimeError: start" in text and "x end" in text and r"\dots{}" in text and "secret" not in text
    assert len(text) < 1200


def test_a_table_without_rows_says_so():
    assert "Nothing to show." in formats.latex(tables.plain("none", "c", pd.DataFrame({"A": [], "B": []})))


@needs_tex
def test_every_sign_compiles(tmp_path):
    printable = "".join(map(chr, range(32, 0x180))) + EVIL + "".join(map(chr, range(0x391, 0x3CA)))
    compile_paper(tmp_path, "\n\n".join(escape(sign) for sign in printable) + escape(EVIL))


@pytest.fixture(scope="module", params=["paper", "v3"])
def full_report(tmp_path_factory, request) -> Path:
    """A report with every kind of cell: long names, notices, hashes, addresses, errors, many arms."""
    arms = [("none", "none")] + [("gemma3-270m", name) for name in ("pretrained", "random", "stand-in", "mlp", "depth")]
    long = {
        "source": "https://example.org/" + "a-rather-long-path/" * 8 + "x.tar",
        "notice": f"Labels of a model. {EVIL}",
    }
    made = [replace(r, task=replace(r.task, **long)) for r in fake.records(4, tuple(arms), seeds=2, cases=3)]
    train = {f"setting_{i}": EVIL * (i % 3) for i in range(60)}
    made = [replace(r, spec=replace(r.spec, train=train)) for r in made]
    made[3] = fake.failure(made[3].spec, made[3].task, f"Traceback\n  {EVIL}\nRuntimeError: {EVIL} " * 20)
    return build.write_report(
        fake.write_run(tmp_path_factory.mktemp("run"), made, previews=False),
        title=EVIL,
        command=EVIL,
        profile=request.param,
    ).parent


@needs_tex
@pytest.mark.parametrize("options", ["twocolumn", "twocolumn,11pt,a4paper"])
def test_all_tables_of_a_report_compile_and_fit(full_report, tmp_path, options):
    files = sorted((full_report / "tables").glob("*.tex"))
    log = compile_paper(tmp_path, "\n".join(path.read_text() for path in files), options)
    assert len(files) >= 9
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert max(wide, default=0) < 3, log
    assert "Float too large" not in log and "undefined" not in log


def test_columns_take_what_is_left_of_the_line():
    frame = pd.DataFrame({"Short": ["a"], "N": ["1"], "Long": ["word " * 40], "Longer": ["word " * 45]})
    short, number, long, longer = latex._columns(tables.plain("t", "", frame, ["N"]))
    assert (short.spec, number.spec) == ("l", "r") and long.wrapped and longer.wrapped
    assert sum(column.width + 2 for column in (short, number, long, longer)) <= latex._LINE
