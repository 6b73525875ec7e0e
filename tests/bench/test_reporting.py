"""report, compare and export at the door: what is printed and written, and what the exit code is."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest

from bench import plan, reporting
from reports import pdf
from results import leaderboard, summary
from results.record import TrialResult
from tests.results import fake


@pytest.fixture
def run_of(tmp_path):
    """Write records as a run folder with its plan, `tmp_path/<name>`."""

    def write(name: str, made: list[TrialResult], planned: list[TrialResult] | None = None) -> Path:
        run = fake.write_run(tmp_path / name, made, previews=False)
        specs = [record.spec for record in planned or made]
        plan.remember(run, specs)
        return run

    return write


def with_train(record: TrialResult, **train: int) -> TrialResult:
    return replace(record, spec=replace(record.spec, train=record.spec.train | train))


def one_error(done: tuple[int, str, str], *words: str) -> None:
    code, out, err = done
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, (code, out, err)
    assert all(word in err for word in words), err


def test_one_run_is_reported_in_its_own_folder(bench, run_of):
    run_of("a", fake.records(1))
    code, out, _ = bench("report", "a")
    assert code == 0 and out == "a/report/index.html\n" and Path(out.strip()).is_file()


def test_several_runs_are_merged_with_their_plans(bench, run_of, tmp_path):
    made = fake.records(2, seeds=2)
    never = fake.complete(fake.spec("Task02_Fake", "gpt2", "stand-in"), fake.task(), ())
    a, b = run_of("a", made[:7]), run_of("b", made[5:10], [*made[5:], never])
    before = {path: path.read_bytes() for run in (a, b) for path in run.rglob("*.json")}
    code, out, err = bench("report", "a", "b", "--to", "deep/all")
    assert code == 0 and out == "deep/all/report/index.html\n", err
    assert len(pd.read_csv("deep/all/results.csv")) == len(pd.read_parquet("deep/all/results.parquet")) == 10 * 2 * 2
    assert "10 of 13 trials complete" in Path("deep/all/report/report.md").read_text()
    assert {path: path.read_bytes() for run in (a, b) for path in run.rglob("*.json")} == before
    assert bench("report", "deep/all")[0] == 0  # it is a run folder as any other

    code, out, _ = bench("report", "a", "b")
    assert code == 0 and Path(out.strip()) == tmp_path / "a+b" / "report" / "index.html"


def test_records_that_disagree_are_refused_by_both_names(bench, run_of, tmp_path):
    record = fake.records(1)[0]
    run_of("a", [record])
    run_of("b", [replace(record, cases=record.cases[1:])])
    one_error(bench("report", "a", "b"), *(f"{run}/trials/{record.spec.key}.json" for run in "ab"), "other content")
    assert not (tmp_path / "a+b").exists()


def test_plans_that_disagree_are_refused_though_no_trial_was_run(bench, run_of, tmp_path):
    made = fake.records(1)
    run_of("a", made[:1], made)
    run_of("b", made[:1], [made[0], with_train(made[1], epochs=5)])
    one_error(bench("report", "a", "b"), "a/plan.json", "b/plan.json", "train.epochs (3, 5)", "bench compare")
    assert not (tmp_path / "a+b").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "a", "nowhere"], ["nowhere", "no run folder"]),
        (["report", "a", "b", "--to", "b"], ["--to b", "one of the runs"]),
        (["report", "a", "b", "--to", "file"], ["--to file", "is a file"]),
        (["compare", "a", "nowhere"], ["nowhere", "no run folder"]),
        (["compare", "a", "b", "--metric", "dise"], ["--metric", "did you mean 'dice'"]),
        (["export", "nowhere", "--to", "x.csv"], ["nowhere", "no run folder"]),
        (["export", "a", "--to", "file"], ["--to file", "--force"]),
        (["export", "a", "--to", "b"], ["--to b", "is a folder"]),
        (["export", "a", "--to", "file/x.csv"], ["--to file/x.csv", "cannot be written"]),
        (["export", "empty", "--to", "x.csv"], ["empty", "no trial record"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line(bench, run_of, tmp_path, arguments, words):
    run_of("a", fake.records(1)[:1])
    run_of("b", fake.records(1)[1:])
    run_of("empty", [], fake.records(1))
    (tmp_path / "file").write_text("mine")
    one_error(bench(*arguments), *words)
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "x.csv").exists()


def test_too_many_runs_for_a_name_ask_for_one(tmp_path):
    with pytest.raises(reporting.StudyError, match="--to DIR"):
        reporting.beside([tmp_path / f"a-rather-long-name-{i}" for i in range(9)])


def rows_of(out: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(out), sep="\t")


def test_compare_pairs_the_same_cases(bench, run_of):
    """The second run lacks a case, has other settings and one seed more; each mean is over what both have."""
    first = fake.records(2, fake.REAL_ARMS, cases=3)
    second = [with_train(record, epochs=9) for record in fake.records(2, fake.REAL_ARMS, seeds=2, cases=3)]
    second = [replace(record, cases=record.cases[:4]) for record in second]
    run_of("a", first)
    run_of("b", second)
    code, out, err = bench("compare", "a", "b", "--metric", "Jaccard")
    rows = rows_of(out)
    assert code == 0 and list(rows.columns) == [
        *("task", "arm", "A", "B", "B - A", "95 % interval", "cases", "trials of A", "of B")
    ]
    assert rows["task"].tolist() == ["Task01_Fake"] * 3 + ["Task02_Fake"] * 3 + ["all"] * 3
    assert rows["arm"].tolist() == ["none", "smollm2", "smollm2 (random twin)"] * 3
    assert rows["cases"].tolist() == [2] * 6 + [4] * 3 and rows["trials of A"].tolist() == [1] * 6 + [2] * 3
    assert rows["of B"].tolist() == [2] * 6 + [4] * 3

    def jaccard(records: list[TrialResult], label: str) -> float:
        cases = [one for r in records for one in r.cases[:4] if one.label == label]
        return sum(one.tp / (one.tp + one.fp + one.fn) for one in cases) / len(cases)

    means = [sum(jaccard(records, label) for label in ("organ", "lesion")) / 2 for records in (first[:1], second[:2])]
    assert rows.loc[0, ["A", "B", "B - A"]].tolist() == pytest.approx([*means, means[1] - means[0]], abs=1e-4)
    assert "set otherwise: train.epochs: 3 in A, 9 in B" in err.splitlines()
    assert "only in a: Task01_Fake with none, 1 case: p2_case2" in err.splitlines()


def test_compare_says_what_only_one_run_has(bench, run_of):
    made = fake.records(3, fake.REAL_ARMS)
    run_of("a", made[:4])
    run_of("b", [made[0], made[4], fake.failure(made[1].spec, made[1].task), *made[6:]])
    code, out, err = bench("compare", "a", "b")
    assert code == 0 and rows_of(out)[["task", "arm"]].values.tolist() == [["Task01_Fake", "none"]]
    assert err.splitlines() == [
        "only in a: Task01_Fake with smollm2",
        "only in a: Task01_Fake with smollm2 (random twin)",
        "only in a: Task02_Fake with none",
        "only in b: task Task03_Fake",
        "only in b: Task02_Fake with smollm2",
    ]


def test_a_case_of_other_data_is_not_the_same_case(bench, run_of):
    made = fake.records(2)
    other = [replace(r, spec=replace(r.spec, data_digest="new")) if r.spec.task == "Task02_Fake" else r for r in made]
    run_of("a", made)
    run_of("b", other)
    code, out, err = bench("compare", "a", "b")
    assert code == 0 and set(rows_of(out)["task"]) == {"Task01_Fake"}
    assert "not compared: Task02_Fake: its data are not the same" in err and "only in" not in err


def test_runs_without_anything_in_common_are_told_so(bench, run_of):
    made = fake.records(2)
    run_of("a", made[:3])
    run_of("b", made[3:])
    code, out, err = bench("compare", "a", "b")
    assert code == 2 and out == "" and "no scored case of an arm in common" in err.splitlines()[0]
    assert "error: only in a: task Task01_Fake" in err.splitlines()


def test_compare_shows_a_person_a_table(run_of, capsys):
    from rich.console import Console

    run = run_of("a", fake.records(1))
    screen = io.StringIO()
    reporting.show_comparison(run, run, "dice", Console(file=screen, force_terminal=True, width=120, color_system=None))
    text = screen.getvalue()
    assert "│" in text and text.count("+0.0000 to +0.0000") == 3 and "mean dice" in text


def test_export_has_the_documented_columns_and_the_means_of_the_report(bench, run_of, tmp_path):
    made = fake.records(2, fake.REAL_ARMS, seeds=2)
    made[2] = fake.failure(made[2].spec, made[2].task)
    clean = made[0].provenance | {"dirty": False, "commit": "fedc"}
    made[0] = replace(made[0], provenance=clean)
    never = fake.complete(fake.spec("Task02_Fake", "gpt2", "stand-in"), fake.task(), ())
    run_of("a", made, [*made, never])
    code, out, _ = bench("export", "a", "--to", "out/board.csv")
    assert code == 0 and out == "out/board.csv: 7 rows\n" and os.listdir(tmp_path / "out") == ["board.csv"]
    frame = pd.read_csv("out/board.csv", keep_default_na=False).set_index(["task", "arm"])
    assert list(pd.read_csv("out/board.csv")) == list(leaderboard.COLUMNS)

    trials = summary.trial_table(made)
    tasks = summary.by_task(summary.case_scores(summary.long_table(made), trials), trials)
    for row in tasks.itertuples():
        assert float(frame.loc[(row.task, row.arm), "dice_mean"]) == row.dice_mean
    smol = frame.loc[("Task01_Fake", "smollm2")]
    assert (smol["complete"], smol["expected"], smol["weights_sha256"], smol["layer"]) == (1, 2, fake.SHA, "31")
    assert smol["data_digest"] == "data00" and smol["origin"] == "phantom" and len(smol["settings_digest"]) == 12
    assert frame.loc[("Task01_Fake", "none"), "commit"] == "fedc; 0123456789abcdef+changes"
    assert frame.loc[("Task02_Fake", "none"), "versions"] == "ray==0.1-fake torch==0.0-fake"
    empty = frame.loc[("Task02_Fake", "gpt2 (stand-in, random)")]
    assert (empty["complete"], empty["expected"], empty["dice_mean"], empty["commit"]) == (0, 1, "", "")
    assert empty["weights"] == "stand-in, random"


def test_settings_digest_tells_settings_apart_and_nothing_else(run_of):
    made = fake.records(1, seeds=2)
    digest = leaderboard.table(made)["settings_digest"]
    assert digest.nunique() == 1
    changed = leaderboard.table([with_train(record, epochs=4) for record in made])["settings_digest"]
    assert changed.nunique() == 1 and changed[0] != digest[0]


def test_export_replaces_only_by_force(bench, run_of, tmp_path):
    run_of("a", fake.records(1))
    target = tmp_path / "board.csv"
    target.write_text("mine")
    one_error(bench("export", "a", "--to", "board.csv"), "--force")
    assert target.read_text() == "mine"
    assert bench("export", "a", "--to", "board.csv", "--force")[0] == 0
    assert len(pd.read_csv(target)) == 3


def test_the_help_of_export_documents_every_column(bench):
    _, out, _ = bench("export", "--help")
    metric = re.compile(f"^({'|'.join(sorted(summary.METRICS, key=len, reverse=True))})(?=_)")
    ends = {metric.sub("<metric>", name) for name in leaderboard.COLUMNS}
    told = set(re.findall(r"[<>\w]+", out)) | {f"<metric>{word}" for word in re.findall(r" (_\w+)", out)}
    assert ends <= told, ends - told
    assert all(leaderboard.COLUMNS.values())


def fake_browser(tmp_path: Path, monkeypatch, script: str) -> Path:
    """Put an executable named chromium on the PATH, alone with the system's own tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "chromium"
    path.write_text(f"#!{sys.executable}\nimport json, os, subprocess, sys, time\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return path


def test_without_a_browser_nothing_is_written(bench, run_of, monkeypatch):
    run = run_of("a", fake.records(1))
    monkeypatch.setenv("PATH", str(run))
    one_error(bench("report", "a", "--pdf"), "needs Chromium", "chromium-browser", "apt-get install chromium")
    assert not (run / "report").exists()


def test_the_browser_gets_a_profile_of_its_own_and_no_network(bench, run_of, tmp_path, monkeypatch):
    run = run_of("a", fake.records(1))
    script = (
        f"json.dump(sys.argv[1:], open({str(tmp_path / 'argv.json')!r}, 'w'))\n"
        "target = next(a.split('=', 1)[1] for a in sys.argv if a.startswith('--print-to-pdf='))\n"
        "open(target, 'wb').write(b'%PDF-1.4 made')"
    )
    fake_browser(tmp_path, monkeypatch, script)
    code, out, _ = bench("report", "a", "--pdf")
    assert code == 0 and out.splitlines() == ["a/report/index.html", "a/report/report.pdf"]
    assert (run / "report" / "report.pdf").read_bytes() == b"%PDF-1.4 made"
    given = json.loads((tmp_path / "argv.json").read_text())
    assert given[-1] == (run / "report" / "index.html").as_uri()
    for flag in ("--headless", "--disable-quic", "--disable-background-networking", "--no-pdf-header-footer"):
        assert flag in given
    (profile,) = (flag.split("=", 1)[1] for flag in given if flag.startswith("--user-data-dir="))
    assert not Path(profile).parent.exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("print('cannot start', file=sys.stderr); sys.exit(7)", "exit code 7: cannot start"),
        ("print('all is well')", "without a PDF"),
    ],
)
def test_a_browser_that_fails_is_told(tmp_path, monkeypatch, script, words):
    fake_browser(tmp_path, monkeypatch, script)
    with pytest.raises(pdf.PdfError, match=words):
        pdf.write_pdf(tmp_path / "index.html")
    assert not (tmp_path / "report.pdf").exists()


def test_a_browser_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    script = (
        f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\ntime.sleep(60)"
    )
    fake_browser(tmp_path, monkeypatch, script)
    with pytest.raises(pdf.PdfError, match="within 3 s"):
        pdf.write_pdf(tmp_path / "index.html", timeout=3)
    left = [psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split() if psutil.pid_exists(int(pid))]
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, pdf.BROWSERS)), reason="no Chromium on the PATH")
def test_chromium_prints_the_page(tmp_path, run_of):
    run = run_of("a", fake.records(2))
    page, printed = reporting.write_report([run], pdf=True)
    assert printed == page.with_name("report.pdf") and printed.read_bytes().startswith(b"%PDF")
    assert printed.stat().st_size > 20_000
