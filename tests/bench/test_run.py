"""The main job end to end at the door, on Ray with DeepSpeed: run, run again, add, fail, stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.bench.door import flags_of

REPOSITORY = Path(__file__).parents[2]
COLUMNS = [
    *("task", "modality", "backbone", "control", "layer", "weights", "seed", "fold", "fraction", "digest"),
    *("case", "patient", "label", "tp", "fp", "fn", "tn", "dice", "jaccard", "precision", "recall", "specificity"),
    *("accuracy", "balanced_accuracy", "nsd", "hd95", "hd95_penalised", "diagonal"),
]
SMALL = ["--steps", "4", *flags_of("model.image=16,16,16", "model.width=16", "model.depth=2", "train.epochs=2")]


def command(data: Path, run: Path, *arguments: str) -> list[str]:
    fixed = ["--weights", "random", "--data", str(data), "--out", str(run)]
    return [sys.executable, "-m", "bench", "run", *fixed, *SMALL, *arguments]


def bench(data: Path, run: Path, *arguments: str, path: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
    here = run.parent  # paths are given as people give them: relative to where they stand
    line = command(Path(os.path.relpath(data, here)), Path(run.name), *arguments)
    env = os.environ | {
        "BENCH_CACHE": os.path.relpath(os.environ["BENCH_CACHE"], here),
        "PYTHONPATH": os.pathsep.join(map(str, [REPOSITORY, *path])),
    }
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False, cwd=here, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def records(run: Path) -> dict[str, float]:
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in (run / "trials").rglob("*.json")}


def test_a_study_runs_once_and_only_what_is_missing_is_added(tiny_msd, tmp_path):
    run = tmp_path / "run"
    done = bench(tiny_msd, run, "--backbones", "gpt2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 trials complete" in done.stdout and "http://127.0.0.1:" in done.stdout
    first = records(run)
    assert len(first) == 2
    table = pd.read_csv(run / "results.csv")
    assert list(table.columns) == COLUMNS == list(pd.read_parquet(run / "results.parquet").columns)
    assert (table[["tp", "fp", "fn", "tn"]].sum(axis=1) == 20**3).all()
    assert set(table["backbone"]) == {"none", "gpt2"} and set(table["weights"]) == {"none", "random"}
    for name in (
        "index.html",
        "report.md",
        *(f"tables/by_{t}.{k}" for t in ("task", "modality") for k in ("csv", "tex")),
    ):
        assert (run / "report" / name).stat().st_size > 0, name
    for kind in ("png", "svg"):
        assert len(list((run / "report" / "figures").glob(f"*.{kind}"))) >= 5

    again = bench(tiny_msd, run, "--backbones", "gpt2")
    assert again.returncode == 0 and "nothing to run: 2 of 2 trials are complete" in again.stdout
    assert "Ray" not in again.stdout and records(run) == first

    more = bench(tiny_msd, run, "--backbones", "none", "--seeds", "0,1")
    assert more.returncode == 0 and "2 trials, 1 to run" in more.stdout
    assert len(records(run)) == 3 and first.items() <= records(run).items()

    other = bench(tiny_msd, run, "--backbones", "none", "--set", "train.batch=4")
    assert other.returncode == 2 and "train.batch = 2" in other.stderr and "--out" in other.stderr
    status = subprocess.run(
        [sys.executable, "-m", "bench", "status", str(run)], capture_output=True, text=True, check=True
    )
    assert "3 of 3 trials complete" in status.stdout


def test_references_run_beside_the_baseline_and_stand_last_in_the_report(tiny_msd, tmp_path):
    run = tmp_path / "run"
    study = tmp_path / "study.toml"
    study.write_text('references = ["unetr", "segresnet"]\ntrain.budget = "1h"\n')  # the flag --steps wins
    done = bench(tiny_msd, run, "--study", "study.toml")
    assert done.returncode == 0 and "3 of 3 trials complete" in done.stdout, done.stdout + done.stderr
    table = pd.read_csv(run / "results.csv")
    assert list(table["backbone"].unique()) == ["none", "segresnet", "unetr"]
    assert set(table["weights"]) == {"none", "reference"}
    controls = pd.read_csv(run / "report" / "tables" / "controls.csv")
    assert list(controls["Group"]) == ["Baseline", "Reference models", "Reference models"]
    assert "Is it the pre-training?" not in (run / "report" / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.weights
def test_the_example_compares_the_segmenter_with_references_on_the_real_sample(tmp_path):
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    for arguments in (
        ["data", "sample", "--to", "data"],
        ["run", "--study", str(REPOSITORY / "examples" / "references.toml"), "--seeds", "0", "--budget", "3s"],
    ):
        line = [sys.executable, "-m", "bench", *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "runs" / "references" / "results.csv")
    assert set(table["backbone"]) == {"none", "segresnet", "unetr"} and set(table["patient"]) == {"CT1", "CT2"}
    assert set(table["label"]) == {"liver", "spleen", "pancreas"}


def test_a_failed_trial_is_recorded_and_named_the_rest_go_on_and_it_is_tried_again(tiny_msd, tmp_path):
    run = tmp_path / "run"
    blocked = run / "previews" / "Task99_Tiny" / "gpt2+random"  # a file where this arm's folder has to be
    blocked.parent.mkdir(parents=True)
    blocked.touch()
    done = bench(tiny_msd, run, "--backbones", "gpt2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 2 trials complete" in done.stdout
    failed, retry = done.stdout.splitlines()[-2:]
    assert failed.startswith("failed: Task99_Tiny with gpt2 (random twin), seed 0, fold 0: ")
    assert retry.startswith("to run what is missing: python -m bench run --weights random")
    errors = [json.loads((run / name).read_text())["error"] for name in records(run)]
    assert sorted(bool(error) for error in errors) == [False, True]
    assert "1 of 2" in (run / "report" / "report.md").read_text() + "".join(errors)

    blocked.unlink()
    again = bench(tiny_msd, run, "--backbones", "gpt2")
    assert again.returncode == 0 and "2 trials, 1 to run" in again.stdout
    assert "2 of 2 trials complete" in again.stdout


def test_ctrl_c_ends_cleanly_and_keeps_what_is_complete(tiny_msd, tmp_path):
    run = tmp_path / "run"
    seeds = ",".join(map(str, range(200)))
    started = subprocess.Popen(
        command(tiny_msd, run, "--backbones", "none", "--seeds", seeds),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not records(run) and time.monotonic() < deadline:
        time.sleep(0.2)
    family = psutil.Process(started.pid).children(recursive=True)
    os.kill(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert started.returncode == 130, out + err
    assert "complete trials are kept" in out and "Traceback" not in err
    kept = records(run)
    assert 1 <= len(kept) < 200 and (run / "report" / "index.html").exists()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, [process.cmdline() for process in alive]


@pytest.mark.slow
def test_two_workers_a_trial_score_as_one_does(tiny_msd, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert bench(tiny_msd, one, "--backbones", "none").returncode == 0
    done = bench(tiny_msd, two, "--backbones", "none", "--workers-per-trial", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    frames = [pd.read_csv(run / "results.csv") for run in (one, two)]
    assert (frames[0]["case"] == frames[1]["case"]).all()
    assert (frames[0]["dice"].fillna(-1) - frames[1]["dice"].fillna(-1)).abs().max() < 0.02


def test_a_package_of_a_third_party_adds_a_backbone_that_runs(tiny_msd, tmp_path):
    """The package in examples/, installed by pip as any other, and found by the command and by Ray's workers."""
    source, site = tmp_path / "plug_in", tmp_path / "site"
    shutil.copytree(REPOSITORY / "examples" / "plug_in", source)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True, capture_output=True)
    done = bench(tiny_msd, tmp_path / "run", "--backbones", "my-gpt2", path=[site])
    assert done.returncode == 0 and "2 of 2 trials complete" in done.stdout, done.stdout + done.stderr
    assert set(pd.read_csv(tmp_path / "run" / "results.csv")["backbone"]) == {"none", "my-gpt2"}
