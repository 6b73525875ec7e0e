"""Listens to Tune: progress passed on, and a record for a trial whose process died."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ray import tune

from bench import live
from bench.launch.session import RayGone, is_up
from bench.stopping import Stop, Terminated, asked
from bench.trial import TrialJob, record_failure
from results import store
from results.record import Status

#: By which words Ray tells that a process is gone, in lower case.
_GONE = ("actor died", "actor is dead", "worker died", "node died", "actor is temporarily unavailable")


class OnProgress(Protocol):
    """Called with a trial's key and the share of it that is done; 1.0 once it has ended, failed or not."""

    def __call__(self, key: str, share: float, failed: bool = False) -> None: ...


class Watch(tune.Callback):
    """Passes progress on, and writes the record of a trial whose process died before it could.

    unborn: jobs whose process died before Tune had seen it work. unwritable: why a record could not be written; Tune
    swallows errors of most of its callbacks, so it is raised from the next step.
    """

    def __init__(self, jobs: dict[str, TrialJob], on_progress: OnProgress, stop: Stop | None = None) -> None:
        self.jobs, self.on_progress, self.stop = jobs, on_progress, stop
        self.unborn: list[TrialJob] = []
        self.unwritable: OSError | None = None
        self._awaited: set[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that this project never makes: a progress bar has no place there."""
        return {"jobs": self.jobs}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.on_progress(trial.config["key"], min(0.99, float(result.get("share", 0.0))))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """RayGone where Ray itself died, OSError where a record could not be written.

        Terminated after a stop was asked for, once the trials that ran then have ended or their time is up.
        """
        if self.unwritable:
            raise self.unwritable
        look_at_ray()
        if not self.stop:
            return
        self.stop.look()
        if not self.stop.asked:
            return
        running = {trial.trial_id for trial in trials if trial.status == "RUNNING"}
        self._awaited = (running if self._awaited is None else self._awaited) & running
        if not self._awaited:
            raise Terminated

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        key = trial.config["key"]
        job = self.jobs[key]
        if asked(Path(job.run))() and _failed(job):
            return  # it has stopped, and neither ended nor failed; an older record of it may be there
        if not _record_path(job).exists():
            self._record_failure(job, "its workers failed, and could not write why; the log of Ray may tell")
        self._ended(key)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        key = trial.config["key"]
        job = self.jobs[key]
        if trial.should_recover():  # Tune would have, had the process come up
            self.unborn.append(job)
            return
        if job.spec.digest not in store.completed(Path(job.run)):  # a process may die after its record is written
            self._record_failure(job, error_of(trial))
        live.forget(Path(job.run), key)
        self._ended(key)

    def _record_failure(self, job: TrialJob, error: str) -> None:
        try:
            record_failure(job, error)
        except OSError as problem:  # a full disk: the trials to come would fare no better
            self.unwritable = problem

    def _ended(self, key: str) -> None:
        self.on_progress(key, 1.0, _failed(self.jobs[key]))


def _failed(job: TrialJob) -> bool:
    try:
        return store.read_file(_record_path(job)).status is not Status.COMPLETE
    except (OSError, store.RecordError):
        return True


def look_at_ray() -> None:
    """RayGone where Ray itself died."""
    if not is_up():
        raise RayGone("Ray's raylet died")


def _record_path(job: TrialJob) -> Path:
    return store.key_path(Path(job.run) / "trials", job.spec.key, ".json")


def error_of(trial: Any) -> str:
    """Why a trial or its process failed: Ray's account of it, and below it ours where the process is gone.

    People are shown the last line.
    """
    told = Path(trial.error_file).read_text().strip() if trial.error_file else "Ray gives no reason"
    text = told.lower()
    if "low on memory" in text:
        return f"{told}\nits process was killed: its machine was low on memory"
    if any(words in text for words in _GONE):
        return f"{told}\nits process died: it was killed, or its machine is gone"
    return told
