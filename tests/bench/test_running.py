"""The flags that say how a study is run, at the door and in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import machine
from bench.study import StudySpec, load

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--address", "nowhere"], ["--address: 'nowhere'", "auto, HOST:PORT or ray://HOST:PORT"]),
        (["--address", "http://x:1"], ["--address: 'http://x:1'"]),
        (["--address", "127.0.0.1:99999"], ["--address: '127.0.0.1:99999'", "a port from 1 to 65535"]),
        (["--address", "ray://head:0"], ["--address: 'ray://head:0'"]),
        (["--address", "[:::]:6379"], ["--address: '[:::]:6379'"]),
        (["--gpus-per-worker", "2"], ["--gpus-per-worker: 2", "a worker computes on one GPU", "--workers-per-trial"]),
        (["--gpus-per-worker", "-1"], ["--gpus-per-worker: -1"]),
        (["--gpus-per-worker", "0.5", "--workers-per-trial", "2"], ["--gpus-per-worker: 0.5 with", "use 1 or 0"]),
        (["--gpus-per-worker", "1"], ["--gpus-per-worker: 1, but torch finds no GPU"]),
        (["--cpus-per-worker", "-1"], ["--cpus-per-worker: -1 is below 0"]),
        (["--cpus-per-worker", "3"], ["1 workers of 3 cores each (--cpus-per-worker), but this machine has 2 cores"]),
        (["--precision", "fp16", "--zero-stage", "1"], ["--precision fp16 with --zero-stage 1", "--precision bf16"]),
        (["--precision", "fp8"], ["--precision"]),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_refused_with_what_would_work(bench, tiny_msd, monkeypatch, flags, words):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "gpus", lambda: 0)
    code, out, err = bench("run", "--data", tiny_msd, "--out", "run", *flags)
    assert code == 2 and "Traceback" not in err and not Path("run").exists(), out + err
    assert all(word in err for word in words), err


def test_a_file_sets_what_flags_would(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('gpus_per_worker = 1\ncpus_per_worker = 4\naddress = "auto"\n[train]\nprecision = "bf16"\n')
    study = StudySpec(**load(path))
    assert (study.gpus_per_worker, study.cpus_per_worker, study.address) == (1.0, 4, "auto")
    assert study.resolved()["train"]["precision"] == study.resolved()["block"]["dtype"] == "bf16"


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.cluster:6379", "ray://head:65535", "[::1]:6379"])
def test_addresses_of_clusters(address):
    assert StudySpec(address=address).address == address


def test_how_it_is_run_is_part_of_no_trial(bench, tiny_msd):
    plain = bench("plan", "--data", tiny_msd)
    other = bench("plan", "--data", tiny_msd, "--address", "auto", "--cpus-per-worker", "2", "--zero-stage", "2")
    assert plain[0] == other[0] == 0
    digests = [StudySpec(data="x").fixed(), StudySpec(data="x", address="auto", gpus_per_worker=0.5).fixed()]
    assert digests[0] == digests[1]


def test_the_precision_is_part_of_a_trial_and_fp16_keeps_the_block_in_fp32():
    assert StudySpec(settings={"train": {"precision": "fp16"}}).resolved()["block"]["dtype"] == "fp32"
    assert StudySpec(settings={"train": {"precision": "bf16"}}).fixed() != StudySpec().fixed()


def test_the_example_of_a_machine_with_gpus_is_a_study():
    study = StudySpec(**load(EXAMPLES / "eight_gpus.toml"))
    assert (study.gpus_per_worker, study.cpus_per_worker) == (1, 8)
    assert study.resolved()["train"]["precision"] == "bf16" and study.folds == "all"
