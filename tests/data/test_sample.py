"""The real sample: what goes wrong without a network, and (marker `weights`) the real thing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench.data import sample
from bench.data.check import check_task
from bench.data.folder import DataError, open_task, read_case
from bench.data.splits import make_split


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found\nnotice: something else\n")
    monkeypatch.setattr(sample.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(DataError, match="ERROR: No matching distribution found; check the network") as raised:
        sample.write_sample(tmp_path / "data")
    assert str(tmp_path / "cache" / "downloads" / sample.ARCHIVE) in str(raised.value)
    assert not (tmp_path / "data" / sample.SAMPLE_NAME).exists()


def test_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / sample.ARCHIVE).write_bytes(b"something else")
    with pytest.raises(DataError, match=f"expected {sample.ARCHIVE_SHA256}"):
        sample.write_sample(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.weights
def test_the_real_sample(tmp_path: Path) -> None:
    path = sample.write_sample(tmp_path)
    folder = open_task(tmp_path, "Task90_SampleAbdomen")
    assert path == folder.path
    assert sample.write_sample(tmp_path) == path
    found = check_task(folder)
    assert found.problems == ()
    assert folder.spec.labels == ("liver", "spleen", "pancreas")
    assert folder.spec.modality == "CT"
    assert "not manual" in folder.spec.notice
    assert folder.spec.licence == "Apache-2.0"
    assert {case.patient for case in folder.cases} == {"CT1", "CT2"}
    assert sum(case.patient == "CT1" for case in folder.cases) >= 4
    assert sum(case.patient == "CT2" for case in folder.cases) >= 2
    assert make_split(folder.cases, 0).folds == 2
    assert sample.ARCHIVE_SHA256 in json.loads((path / "dataset.json").read_text())["reference"]
    for patient in ("CT1", "CT2"):
        volumes = [read_case(case) for case in folder.cases if case.patient == patient]
        for value in (1, 2):
            organ = np.concatenate([volume.image[0][volume.label == value] for volume in volumes])
            # Parenchyma, not fat, lung or bone: the labels lie on the organs. Turned over, a quarter of it would be.
            assert 20 < np.median(organ) < 150
            assert np.mean(organ < -20) < 0.03
            turned = np.concatenate([volume.image[0][:, ::-1][volume.label == value] for volume in volumes])
            assert np.mean(turned < -20) > 0.1
