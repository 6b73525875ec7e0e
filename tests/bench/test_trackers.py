"""`--log`: what is missing is said at the door, and Ray's own callback tells the tracker what trials report."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import stopping, trackers
from bench.launch.told import held_out_dice
from bench.trial import TrialJob
from results import store
from results.record import Status
from tests.bench.test_run import REPOSITORY, command
from tests.results.large_run import Size, records

#: As much of MLflow as Ray's callback uses; each call becomes a line of a file.
MLFLOW = """
import json, os, pathlib, types
__version__ = "2.16.0"
_uri = None
def _tell(*what):
    with open(os.environ["TOLD"], "a") as file: file.write(json.dumps(what) + chr(10))
def set_tracking_uri(uri):
    global _uri; _uri = uri; _tell("uri", uri)
def get_tracking_uri(): return _uri
def set_registry_uri(uri): pass
def get_registry_uri(): return None
def get_experiment_by_name(name): return None
def active_run(): return None
def get_run(run_id): return run_id
def create_experiment(name, artifact_location=None): _tell("experiment", name); return "1"
"""
TRACKING = """
import types
from mlflow import _tell
class MlflowClient:
    def __init__(self, *args, **kwargs): pass
    def create_run(self, run_name="", **kwargs):
        _tell("run", run_name); return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name))
    def log_param(self, run_id, key, value): _tell("param", key, value)
    def log_metric(self, run_id, key, value, step=None): _tell("metric", run_id, key, value)
    def set_terminated(self, run_id, status=None): _tell("end", run_id, status)
"""


@pytest.mark.parametrize("name", trackers.KNOWN)
def test_a_tracker_that_is_not_installed_stops_the_run_at_the_door(bench, tiny_msd, monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None)
    code, _, err = bench("run", "--backbones", "none", "--data", tiny_msd, "--log", name, "--out", "run")
    assert code == 2 and f"--log {name}" in err and f"frozen-block-bench[{name}]" in err
    assert not Path("run").exists()


def test_without_a_key_nothing_is_sent_to_wandb(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: object())
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert "WANDB_MODE=offline" in trackers.problem("wandb")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert trackers.problem("wandb") == ""
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert trackers.problem("wandb") == trackers.problem("mlflow") == trackers.problem("") == ""


def test_a_tracker_that_fails_is_named_once_and_ends_nothing(capsys, tmp_path):
    from ray import tune

    from bench.launch.loggers import Forgiving

    class Broken(tune.Callback):
        def on_trial_start(self, iteration, trials, trial, **info):
            raise ConnectionError("no server")

        on_trial_result = on_trial_complete = on_trial_start

    callback = Forgiving("mlflow", Broken(), tmp_path)
    trial = SimpleNamespace(trial_id="a", config={"key": "t/a/0-0-x"})
    for _ in range(2):
        callback.on_trial_start(iteration=1, trials=[], trial=trial)
        callback.on_trial_complete(iteration=1, trials=[], trial=trial)
        callback.on_experiment_end(trials=[])
    assert capsys.readouterr().err == "--log mlflow: no server; the run goes on without it\n"


def test_a_stopped_trial_is_not_told_as_ended_by_the_record_of_another_run(tmp_path):
    from ray import tune

    from bench.launch.loggers import Forgiving

    told = list[dict]()

    class Tracker(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            told.append(result)

    record = next(records(Size(tasks=1, arms=1, seeds=1, folds=1)))
    trial = SimpleNamespace(trial_id="a", config={"key": record.spec.key}, last_result={"training_iteration": 3})
    store.write(tmp_path, replace(record, status=Status.FAILED, cases=(), error="memory"))
    callback = Forgiving("mlflow", Tracker(), tmp_path)
    callback.on_trial_start(iteration=1, trials=[], trial=trial)
    callback.on_trial_complete(iteration=2, trials=[], trial=trial)
    assert told == []
    store.write(tmp_path, record)
    callback.on_trial_complete(iteration=3, trials=[], trial=trial)
    assert [(one["share"], one["held_out_dice"]) for one in told] == [(1.0, held_out_dice(record))]


def test_a_stopped_trial_is_not_shown_as_failed_by_the_record_of_another_run(tmp_path):
    from bench.launch.watch import Watch

    record = replace(next(records(Size(tasks=1, arms=1, seeds=1, folds=1))), status=Status.FAILED, error="memory")
    store.write(tmp_path, record)
    job = TrialJob(record.spec, record.task, data="", run=str(tmp_path))
    shown = list[tuple]()
    watch = Watch({record.spec.key: job}, lambda *told: shown.append(told))
    trial = SimpleNamespace(trial_id="a", config={"key": record.spec.key})
    (tmp_path / stopping.FILE).touch()
    watch.on_trial_complete(iteration=1, trials=[], trial=trial)
    assert shown == []
    (tmp_path / stopping.FILE).unlink()
    watch.on_trial_complete(iteration=1, trials=[], trial=trial)
    assert shown == [(record.spec.key, 1.0, True)]


@pytest.mark.slow
def test_mlflow_is_told_what_trials_report(tiny_msd, tmp_path):
    package, told, run = tmp_path / "site" / "mlflow", tmp_path / "told.jsonl", tmp_path / "run"
    for name, text in {
        "__init__.py": MLFLOW,
        "tracking.py": TRACKING,
        "exceptions.py": "class MlflowException(Exception): pass\n",
        "utils/__init__.py": "",
        "utils/mlflow_tags.py": "MLFLOW_RUN_NAME = 'mlflow.runName'\n",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(REPOSITORY)]), "TOLD": str(told)}
    env.pop("MLFLOW_TRACKING_URI", None)
    line = command(tiny_msd, run, "--backbones", "none", "--log", "mlflow")
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(text) for text in told.read_text().splitlines()]
    assert lines[:2] == [["uri", f"sqlite:///{run / 'mlflow.db'}"], ["experiment", "run"]]
    (key,) = [value for kind, *value in lines if kind == "param"]
    assert key[0] == "key" and key[1].startswith("Task99_Tiny/none/0-0-")
    name = key[1].replace("/", "_")
    assert {metric[2] for metric in lines if metric[0] == "metric"} >= {"loss", "dice", "share"}
    assert ["end", name, "FINISHED"] in lines
    (record,) = store.read(run)
    last = {metric[2]: metric[3] for metric in lines if metric[0] == "metric"}
    assert last["held_out_dice"] == held_out_dice(record) and last["share"] == 1
    assert last["loss"] == record.curve[-1]["loss"] and last["step"] == record.curve[-1]["step"]
