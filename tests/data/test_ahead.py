"""Work on many cases in processes: limits hold, failures are named, nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data import ahead
from bench.data.ahead import Job, free_memory, run, size_of, size_text
from bench.data.folder import Case, DataError
from bench.preparing import _memory


def touch(folder: str, name: str, seconds: float = 0.0) -> None:
    """Leave a file for the time that the job runs, and a mark of how many ran beside it."""
    mine = Path(folder) / f"{name}.running"
    mine.touch()
    time.sleep(seconds)
    (Path(folder) / f"{name}.{len(list(Path(folder).glob('*.running')))}").touch()
    mine.unlink()


def fail(kind: str) -> None:
    if kind == "data":
        raise DataError("image.nii.gz: truncated")
    if kind == "ours":
        raise KeyError("x")
    os.kill(os.getpid(), signal.SIGKILL)


def peaks(folder: Path) -> set[int]:
    return {int(path.suffix[1:]) for path in folder.iterdir()}


def test_failures_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = [Job(f"case_{kind}", fail, (kind,), 0) for kind in ("data", "ours", "killed")]
    jobs += [Job(f"good_{n}", touch, (str(tmp_path), f"good_{n}"), 5_000_000_000) for n in range(3)]
    errors = {job.name: error for job, error in run(jobs, workers=2, memory=1 << 40)}
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["good_0", "good_1", "good_2"]
    assert {name for name, error in errors.items() if not error} == {"good_0", "good_1", "good_2"}
    assert errors["case_data"] == "case_data: image.nii.gz: truncated"
    assert errors["case_ours"] == "case_ours: KeyError: 'x'"
    assert errors["case_killed"].startswith("case_killed: its process ended with code -9, as when the system runs out")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("workers", "memory", "most"), [(2, 1 << 40, 2), (3, 1 << 30, 1), (1, 1 << 40, 1)])
def test_no_more_at_a_time_than_workers_and_memory_allow(tmp_path: Path, workers: int, memory: int, most: int) -> None:
    jobs = [Job(str(n), touch, (str(tmp_path), str(n), 0.2), 700 << 20) for n in range(4)]
    assert all(error == "" for _, error in run(jobs, workers, memory))
    assert max(peaks(tmp_path)) <= most
    assert len(list(tmp_path.iterdir())) == 4


def test_a_job_larger_than_all_memory_is_run_alone(tmp_path: Path) -> None:
    jobs = [Job(str(n), touch, (str(tmp_path), str(n), 0.1), size) for n, size in enumerate((1, 1 << 50, 1))]
    ended = [job.name for job, _ in run(jobs, 2, 1 << 20)]
    assert ended[0] == "1"
    assert len(ended) == 3
    assert peaks(tmp_path) == {1}


def test_stopping_early_ends_the_processes(tmp_path: Path) -> None:
    work = run([Job(str(n), touch, (str(tmp_path), str(n), 0.1 + 30 * n), 9 - n) for n in range(3)], 2, 1 << 40)
    assert next(work)[0].name == "0"
    assert multiprocessing.active_children()
    work.close()
    assert not multiprocessing.active_children()


def test_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert size_of("8G", "--memory") == 8 << 30
    assert size_of("1.5 gib", "--memory") == 3 << 29
    assert size_of("1000", "--memory") == 1000
    for text in ("", "much", "-1G", "0", "0.5"):
        with pytest.raises(DataError, match=f"--memory: {text!r} is no size; give one such as 8G"):
            size_of(text, "--memory")
    assert [size_text(n) for n in (3.21e9, 4.5e7, 1.2e6, 10)] == ["3.2 GB", "45 MB", "1.2 MB", "0.1 MB"]
    monkeypatch.setenv("BENCH_MEMORY", "3G")
    assert free_memory() == 3 << 30
    monkeypatch.delenv("BENCH_MEMORY")
    available = ahead.psutil.virtual_memory().available
    assert 0 < free_memory() <= available
    monkeypatch.setattr(ahead, "_container_memory", lambda: 1000.0)
    assert free_memory() == 800


#: What preparing a case takes beside the libraries that it imports, which count to the process.
PEAK = """
import sys
from pathlib import Path
import nibabel, scipy.ndimage
from bench.data.folder import Case
from bench.data.preparation import Preparation
from bench.data.volumes import prepare_case
case = Case("a", (Path(sys.argv[1]),), Path(sys.argv[2]), "a")
peak = lambda: next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024
before = peak()
prepare_case(case, Preparation((1.0, 1.0, 1.0)))
print(before, peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process from /proc")
@pytest.mark.parametrize(
    ("kind", "channels", "slope"), [(np.int16, 1, 1.0), (np.float32, 2, 1.0), (np.int16, 2, 0.5)], ids=str
)
def test_the_estimate_of_memory_holds(tmp_path: Path, kind: type, channels: int, slope: float) -> None:
    """Not below what preparing takes, nor so far above that half of the machine idles."""
    shape = (120, 120, 100) if channels == 1 else (120, 120, 100, channels)
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.integers(1, 900, shape).astype(kind), np.eye(4))
    image.header.set_slope_inter(slope, 0)
    nib.save(image, tmp_path / "i.nii.gz")
    nib.save(nib.Nifti1Image(rng.integers(0, 2, shape[:3]).astype(np.uint8), np.eye(4)), tmp_path / "l.nii.gz")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "i.nii.gz"), str(tmp_path / "l.nii.gz")],
        env=os.environ | {"BENCH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    before, peak = map(int, done.stdout.split())
    prepared = int(np.prod(shape[:3])) * (4 * channels + 1)
    estimate = _memory(Case("a", (tmp_path / "i.nii.gz",), tmp_path / "l.nii.gz", "a")) + 2 * prepared
    assert before < ahead._PROCESS
    assert peak - before <= estimate <= 3 * (peak - before)
