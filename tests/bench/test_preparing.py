"""`bench data prepare`: what it makes is what trials read; what it says; what it does when something is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import cli
from bench.data.folder import DataError, open_task
from bench.data.preparation import fit_preparation
from bench.data.splits import make_split
from bench.data.volumes import prepare_case

TASK = "Task99_Tiny"


def prepare(root: Path, *more: str) -> Result:
    """One worker: starting a process is what takes time here."""
    return CliRunner().invoke(cli, ["data", "prepare", "--data", str(root), "--workers", "1", *more])


def prepared(cache: Path) -> set[str]:
    return {path.name for path in (cache / "prepared").iterdir() if path.name != ".locks"}


def test_trials_find_everything_prepared(tiny_msd: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = prepare(tiny_msd, "--folds", "0,1", "--set", "data.max_voxels=4000", "--workers", "2")
    assert done.exit_code == 0, done.output
    assert "0 of 12 cases are prepared; the others take about" in done.output
    assert f"{TASK} │ 12 of 12" in done.output
    monkeypatch.setattr("bench.data.volumes.read_case", lambda case: pytest.fail("was prepared already"))
    folder = open_task(tiny_msd, TASK)
    for fold in (0, 1):
        train = set(make_split(folder.cases, fold).train)
        settings = fit_preparation([case for case in folder.cases if case.id in train], (True,), 4000)
        for case in folder.cases:
            assert prepare_case(case, settings).image().ndim == 4


def test_what_is_prepared_is_kept_and_what_is_missing_is_made(tiny_msd: Path, cache: Path) -> None:
    assert prepare(tiny_msd, "--set", "data.window=-100,100").exit_code == 0
    before = prepared(cache)
    assert len(before) == 6
    lost = sorted(before)[0]
    shutil.rmtree(cache / "prepared" / lost)
    stamps = {name: (cache / "prepared" / name).stat().st_mtime_ns for name in before - {lost}}
    again = prepare(tiny_msd, "--set", "data.window=-100,100")
    assert again.exit_code == 0
    assert "5 of 6 cases are prepared" in again.output
    assert prepared(cache) == before
    assert stamps == {name: (cache / "prepared" / name).stat().st_mtime_ns for name in stamps}


def test_a_broken_case_is_named_and_the_others_go_on(
    tmp_path: Path, make_task: Callable[..., Path], cache: Path
) -> None:
    make_task(tmp_path / "data")
    make_task(tmp_path / "data", name="Task98_Other", seed=1)
    folder = open_task(tmp_path / "data", TASK)
    held_out = make_split(folder.cases, 0).held_out[0]
    image = tmp_path / "data" / TASK / "imagesTr" / f"{held_out}.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    done = prepare(tmp_path / "data")
    assert done.exit_code == 1, done.output
    failed = [line for line in done.output.splitlines() if line.startswith("failed:")]
    assert len(failed) == 1
    assert failed[0].startswith(f"failed: {image}: truncated or damaged")
    assert "Task99_Tiny  │ 5 of 5" in done.output
    assert "Task98_Other │ 6 of 6" in done.output


def test_a_broken_training_case_stops_its_fold_alone(
    tmp_path: Path, make_task: Callable[..., Path], cache: Path
) -> None:
    folder = make_task(tmp_path / "data")
    held_out = make_split(open_task(tmp_path / "data", TASK).cases, 0).held_out[0]
    (folder / "labelsTr" / f"{held_out}.nii.gz").write_bytes(b"no image")
    done = prepare(tmp_path / "data", "--folds", "0,1")
    assert done.exit_code == 1
    assert f"failed: {TASK}, fold 1: settings cannot be fitted: " in done.output
    assert done.output.count(f"{held_out}.nii.gz: not a NIfTI file") == 2
    assert "5 of 5" in done.output


def test_too_little_room_is_said_before_anything_is_written(
    tiny_msd: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=100_000)
    monkeypatch.setattr("bench.preparing.shutil.disk_usage", lambda path: usage)
    done = prepare(tiny_msd)
    assert isinstance(done.exception, DataError)
    assert "6 cases need about 0.2 MB, 0.1 MB are free; make room there" in str(done.exception)
    assert "BENCH_CACHE" in str(done.exception)
    assert not (cache / "prepared").exists()


def test_bad_flags_are_refused(tiny_msd: Path, cache: Path) -> None:
    assert "--memory: 'lots' is no size" in str(prepare(tiny_msd, "--memory", "lots").exception)
    assert "data.window: '5,3' is no window" in str(prepare(tiny_msd, "--set", "data.window=5,3").exception)
    assert "unknown task 'Task1'" in str(prepare(tiny_msd, "--tasks", "Task1").exception)
    assert "no such fold" in str(prepare(tiny_msd, "--folds", "7").exception)
    assert prepare(tiny_msd, "--backbones", "llama3").exit_code == 2
