"""What the tests of faults share: a trial killed at a step, and what of a record an interruption may not change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.data.crops import CropSampler
from bench.tensor_file import sha256_of
from bench.trial import TrialJob, attempt
from results.record import TrialResult

#: Of a record, what tells when and how it came about. All else is the same however often a trial was interrupted.
_OF_TIME = {"started", "finished", "taken_up", "notices", "command"}
_OF_COST = ("seconds", "seconds_a_step", "peak_memory_bytes", "checkpoints", "checkpoint_bytes")


class Killed(BaseException):
    """What no trial can catch, as if its process were gone."""


def lasting(record: TrialResult) -> dict[str, Any]:
    """A record but for times: what two runs of a trial must agree on, the hash of the trained model included."""
    body = json.loads(record.to_json())
    body["provenance"] = {name: value for name, value in body["provenance"].items() if name not in _OF_TIME}
    body["cost"] = {name: value for name, value in body["cost"].items() if not name.endswith(_OF_COST)}
    return body


def models(run: Path) -> dict[str, str]:
    """The hash of every trained model of a run, by its path."""
    return {str(path.relative_to(run)): sha256_of(path) for path in (run / "models").rglob("*.safetensors")}


@contextmanager
def raised_at(step: int, error: BaseException, batch: int = 2) -> Iterator[None]:
    """Within it, the error is raised as the crops of this step, counted from 1, are asked for."""
    sample = CropSampler.sample

    def watched(self: CropSampler, index: int) -> Any:
        if index // batch + 1 == step:
            raise error
        return sample(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CropSampler, "sample", watched)
        yield


def kill_at(job: TrialJob, step: int) -> None:
    with raised_at(step, Killed()), pytest.raises(Killed):
        attempt(job, quiet)


def quiet(entry: dict[str, Any], share: float) -> None:
    """A report that nobody reads."""


def left_behind(run: Path) -> list[Path]:
    """What no run that has ended should leave: checkpoints, drafts, temporary files."""
    drafts = [path for path in run.rglob("*") if path.name.endswith((".tmp", ".draft", ".part"))]
    marks = [path for path in run.iterdir() if path.name.startswith((".train-", ".seen-"))]
    return [*drafts, *marks, *(run / "checkpoints").rglob("*")]
