"""`bench status` says where a run stands from its folder alone, whatever became of the command that ran it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from bench import driver, live, plan
from bench.alive import Owner
from bench.live import Live
from bench.status import Records, look, words
from results import store
from tests.results import fake

BACKBONES = ("none", "gpt2", "opt", "falcon", "llama3")


@pytest.fixture
def run(tmp_path):
    """Five planned trials: the first complete, the second failed, no live file yet."""
    folder = tmp_path / "run"
    specs = [fake.spec(backbone=name, control="pretrained" if name != "none" else "none") for name in BACKBONES]
    plan.remember(folder, specs)
    store.write(folder, fake.complete(specs[0], fake.task(), (fake.score("p0_a"),)))
    store.write(folder, fake.failure(specs[1], fake.task(), "Traceback\nRuntimeError: 1 < 2"))
    return folder, specs


@pytest.fixture
def worker():
    """A process that does nothing, for as long as it is let."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def tell(folder: Path, spec, pid: int, **changes) -> None:
    owner = Owner(socket.gethostname(), pid, psutil.Process(pid).create_time())
    now = time.time()
    state = Live(owner.host, owner.pid, owner.born, started=now - 10, updated=now, doing="training", epochs=20)
    state = replace(state, epoch=3, step=30, loss=0.5123, dice=0.61, samples_per_second=41.2, share=0.5)
    state = replace(state, validation_dice=0.587, validated=30)
    store.atomic_write(live.path_of(folder, spec.key), live._text(replace(state, **changes)))


def test_running_failed_and_interrupted_trials_are_told(run, worker, bench):
    folder, specs = run
    for spec in specs[2:4]:
        tell(folder, spec, worker.pid)
    code, out, _ = bench("status", folder)
    assert code == 0 and "failed: Task01_Fake with gpt2@31, seed 0, fold 0: RuntimeError: 1 < 2" in out
    told = "epoch 3 of 20, loss 0.512, training Dice 0.610, validation Dice 0.587, 41.2 samples/s"
    assert len(re.findall(rf"running: Task01_Fake with (opt|falcon)@31, seed 0, fold 0 +{told}", out)) == 2
    assert re.search(r"1 of 5 trials complete, 1 failed, 2 running, .+ left$", out.strip())

    worker.kill()
    worker.wait()
    _, out, _ = bench("status", folder)
    assert "running: " not in out and out.count(f"{told}; its process {worker.pid} is gone") == 2
    assert out.strip().endswith("1 of 5 trials complete, 1 failed, 2 interrupted")


def test_a_trial_is_counted_once_whatever_is_left_of_it(run, worker):
    folder, specs = run
    for spec in specs[:3]:
        tell(folder, spec, worker.pid)  # the first is complete, the second failed and was begun again
    standing = look(Records(folder))
    assert [spec.backbone for spec in standing.failed] == ["gpt2"]  # its record is newer than its beginning
    assert set(standing.running) == {specs[2].digest} and standing.complete == 1
    tell(folder, specs[1], worker.pid, started=time.time() + 1)
    standing = look(Records(folder))
    assert not standing.failed and set(standing.running) == {specs[1].digest, specs[2].digest}
    tell(folder, specs[0], worker.pid, started=time.time() + 1)
    assert specs[0].digest not in look(Records(folder)).running  # a complete record is never begun again


def test_time_left_is_at_the_pace_of_complete_trials(run, worker):
    folder, specs = run
    assert look(Records(folder)).left(time.time()) == ""  # nothing runs: nobody knows when it goes on
    tell(folder, specs[2], worker.pid)
    standing = look(Records(folder))
    pace = sum(standing.ended[specs[0].digest].seconds for _ in (0,))
    assert standing.left(time.time()) == f"{2.5 * pace:.0f} s left"


def test_records_are_read_once(run, monkeypatch):
    folder, specs = run
    records, read = Records(folder), []
    whole = store.read_head
    monkeypatch.setattr(store, "read_head", lambda path: read.append(path) or whole(path))
    assert len(records.read()) == len(records.read()) == 2 and len(read) == 2
    store.write(folder, fake.complete(specs[1], fake.task(), (fake.score("p0_a"),)))
    read.clear()  # the store looks at the old record as well
    assert records.read()[specs[1].digest].complete and len(read) == 1


def test_watching_goes_on_while_a_command_is_at_work_and_then_ends(run, worker, bench):
    folder, specs = run
    tell(folder, specs[2], worker.pid)
    assert driver.working(folder) is None

    def work():
        with driver.at_work(folder, "http://127.0.0.1:1", "/nowhere"):
            begun.set()
            time.sleep(3)
            live.forget(folder, specs[2].key)
            store.write(folder, fake.complete(specs[2], fake.task(), (fake.score("p0_a"),)))
            time.sleep(3)

    begun = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    found = driver.working(folder)
    assert found and (found.pid, found.dashboard) == (os.getpid(), "http://127.0.0.1:1")
    code, out, _ = bench("status", folder, "--watch")
    thread.join()
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("1 of 5 trials complete, 1 failed, 1 running")
    assert lines[-1] == "2 of 5 trials complete, 1 failed"


def test_nothing_is_left_of_a_run_that_ended_but_what_was_interrupted(run, worker):
    folder, specs = run
    with driver.at_work(folder, "", ""):
        for spec in specs[2:4]:
            tell(folder, spec, worker.pid)
        live.forget(folder, specs[2].key)
    left = {path.name for path in (folder / "live").rglob("*")}
    assert left == {"Task01_Fake", specs[3].arm, live.path_of(folder, specs[3].key).name}


def test_a_driver_that_was_killed_works_no_more(run):
    folder, _ = run
    script = (
        "import sys, time; from pathlib import Path; from bench import driver\n"
        "with driver.at_work(Path(sys.argv[1]), 'http://127.0.0.1:1', ''): print('here', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "here\n"
        assert driver.working(folder).pid == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder / driver.FILE).exists() and driver.working(folder) is None


def test_words_leave_out_what_is_not_known():
    state = Live("h", 1, 0.0, 0.0, 0.0, epochs=20)
    assert words(state) == "preparing"
    assert words(replace(state, doing="training", epoch=1, loss=2.0)) == "epoch 1 of 20, loss 2.000"
    assert set(asdict(state)) >= {"host", "pid", "born", "started", "updated"}
