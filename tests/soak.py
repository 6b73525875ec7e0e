"""A study of tiny trials, killed at random: `python -m tests.soak --trials 200 --kills 40 --every 10`.

Every few seconds SIGKILL hits the driver, Ray's raylet or a worker, chosen at random among the run's own processes.
Only seconds in which trials are at work count: by the clock alone, all kills would hit processes that are starting.
The same command is run again whenever the driver has ended, until the kills are spent and all trials are complete.
Then all records and models must be those of a quiet run. One JSON line tells; exit code 1 where something is missing
or other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from results import store
from results.record import Status
from tests.bench.door import flags_of
from tests.bench.fault_room import lasting, left_behind, models
from tests.conftest import write_task

REPOSITORY = Path(__file__).parents[1]
#: Without a new record for so long the run hangs.
PATIENCE = 300.0
#: Seconds between two looks at the run.
_TICK = 0.5


@dataclass
class Soak:
    """What is to be done, and what was done so far."""

    folder: Path
    trials: int
    kills: int
    every: float
    steps: int
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    family: dict[int, psutil.Process] = field(default_factory=dict)

    def command(self, run: str) -> list[str]:
        seeds = ",".join(map(str, range(self.trials)))
        sizes = ["model.image=16,16,16", "model.width=16", "model.depth=1", "model.dropout=0.1", "train.epochs=4"]
        settings = flags_of(*sizes)
        return [
            *(sys.executable, "-m", "bench", "run", "--backbones", "none", "--seeds", seeds, "--out", run),
            *("--data", "data", "--steps", str(self.steps), "--checkpoint-every", "5 steps", *settings),
        ]

    def start(self, run: str, log: IO[str]) -> subprocess.Popen[str]:
        self.starts += 1
        paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        env = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": paths}
        return subprocess.Popen(
            self.command(run), cwd=self.folder, env=env, stdout=log, stderr=log, text=True, start_new_session=True
        )

    def undisturbed(self) -> int:
        """The same study without a kill; returns its exit code."""
        with (self.folder / "quiet.log").open("a") as log:
            return self.start("quiet", log).wait()

    def disturbed(self) -> None:
        """Run, kill and run again until all is spent and complete; TimeoutError if nothing moves any more."""
        run = self.folder / "run"
        with (self.folder / "run.log").open("a") as log:
            driver = self.start("run", log)
            moved, before, worked = time.monotonic(), -1, 0.0
            while True:
                time.sleep(_TICK)
                kinds = self.processes(driver.pid) if self.left else {}
                worked += _TICK * bool(kinds.get("worker"))
                if (there := _complete(run)) != before:
                    moved, before = time.monotonic(), there
                if time.monotonic() - moved > PATIENCE:
                    driver.kill()
                    raise TimeoutError(f"no trial ended for {PATIENCE:.0f} s; see {log.name}")
                if driver.poll() is not None:
                    if there == self.trials:
                        return
                    driver = self.start("run", log)
                elif self.left and worked >= self.every and self.kill_one(kinds):
                    worked = 0.0

    @property
    def left(self) -> int:
        return self.kills - self.killed.total()

    def processes(self, driver: int) -> dict[str, list[psutil.Process]]:
        """The driver's tree by kind, as it is now."""
        kinds: dict[str, list[psutil.Process]] = {"driver": [], "raylet": [], "worker": []}
        try:
            top = psutil.Process(driver)
            tree = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return kinds
        for process in tree:
            self.family[process.pid] = process
            if kind := _kind(process, driver):
                kinds[kind].append(process)
        return kinds

    def kill_one(self, kinds: dict[str, list[psutil.Process]]) -> bool:
        """SIGKILL a process, its kind chosen first; False where there is none of that kind, or it has just ended."""
        if not (chosen := kinds[kind := self.chance.choice(list(kinds))]):
            return False
        try:
            self.chance.choice(chosen).kill()
        except psutil.NoSuchProcess:
            return False
        self.killed[kind] += 1
        return True

    def verdict(self) -> dict[str, Any]:
        """What is not as in the quiet run; all empty where the run is good."""
        run, quiet = self.folder / "run", self.folder / "quiet"
        ours, theirs = ({one.spec.key: one for one in store.read(path)} for path in (run, quiet))
        other = [key for key in theirs if key not in ours or lasting(ours[key]) != lasting(theirs[key])]
        _, alive = psutil.wait_procs(list(self.family.values()), timeout=30)
        return {
            "kills_left": self.left,
            "records_missing_or_other": other,
            "records_too_many": sorted(ours.keys() - theirs.keys()),
            "models_other": models(run) != models(quiet),
            "left_behind": [str(path) for path in left_behind(run)],
            "processes": [process.pid for process in alive],
        }


def _kind(process: psutil.Process, driver: int) -> str:
    if process.pid == driver:
        return "driver"
    try:
        line = process.cmdline()
    except psutil.Error:
        return ""
    if line and line[0].startswith("ray::") and "Agent" not in line[0]:
        return "worker"
    return "raylet" if line and Path(line[0]).name == "raylet" else ""


def _complete(run: Path) -> int:
    """Complete records by a look at their text: they are many, and looked at often."""
    marks = f'"status": "{Status.COMPLETE}"'
    return sum(marks in path.read_text() for path in (run / "trials").rglob("*.json"))


def soak(folder: Path, trials: int, kills: int, every: float, steps: int, seed: int) -> dict[str, Any]:
    """Run a soak in a folder; returns what happened, with `good` true where all is as in the quiet run."""
    write_task(folder / "data")
    one = Soak(folder, trials, kills, every, steps, random.Random(seed))
    started = time.monotonic()
    one.disturbed()
    seconds, starts = time.monotonic() - started, one.starts
    quiet_code = one.undisturbed()
    found = one.verdict()
    taken_up = sum(len(record.provenance["taken_up"]) for record in store.read(folder / "run"))
    return {
        "good": quiet_code == 0 and not any(found.values()),
        "trials": trials,
        "killed": dict(one.killed),
        "starts": starts,
        "taken_up": taken_up,
        "seconds": round(seconds),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="trials of the study [200]")
    parser.add_argument("--kills", type=int, default=40, help="processes to kill [40]")
    parser.add_argument("--every", type=float, default=10.0, help="seconds of work between two kills [10]")
    parser.add_argument("--steps", type=int, default=60, help="training steps of a trial [60]")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of what is killed [0]")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, which stays; else one that is removed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = soak(given.keep or Path(folder), given.trials, given.kills, given.every, given.steps, given.seed)
    print(json.dumps(found))
    sys.exit(not found["good"])


if __name__ == "__main__":
    main()
