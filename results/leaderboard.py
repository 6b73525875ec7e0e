"""A run as a leaderboard's rows: an arm in a task with its means, and all that says what was run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from results import summary
from results.metrics import METRICS
from results.record import Status, TrialResult, TrialSpec, digest_of

#: Each column of the file, in order, and what is in it. Where an arm's trials differ in a text, all of them are in the
#: cell, `; ` between them. What is not known is empty.
COLUMNS = {
    "task": "name of the task",
    "modality": "its modality",
    "origin": "`images`, or `phantom` for generated data",
    "arm": "the arm's name as the report shows it",
    "backbone": "name of the backbone, `none` for the baseline",
    "control": "what stands in the block's place: `pretrained`, `random`, …; `stand-in` is random too",
    "layer": "the block's layer, from 0",
    "fraction": "fraction of the training cases that was trained on",
    "cases": "held-out cases that were scored",
    "complete": "complete trials (seeds × folds)",
    "expected": "planned trials; means are over the complete ones",
} | {
    f"{metric}_{kind}": text.format(told.title + f" in {told.unit}" * bool(told.unit))
    for metric, told in METRICS.items()
    for kind, text in (
        ("mean", "mean {}: seeds within a case and class, then cases, then classes"),
        ("sd", "standard deviation of {} over cases, classes averaged"),
        ("difference", "mean {} minus the baseline's, on the same cases; where lower is better, a gain is below 0"),
    )
}
COLUMNS |= {
    "weights": "what the block's weights are; a random one is never called pre-trained",
    "weights_sha256": "SHA-256 of the weights that were read",
    "data_digest": "digest of the task's content",
    "split_digest": "digests of the splits, one a fold",
    "settings_digest": "digest of every setting of training, model, data and block",
    "commit": "commit of the code, `+changes` where files were changed since",
    "versions": "versions of the packages that a number can depend on",
}


def table(records: Sequence[TrialResult], expected: Iterable[TrialSpec] | None = None) -> pd.DataFrame:
    """A row a task × arm that was planned or recorded, with COLUMNS. expected is the plan, as for `trial_table`."""
    planned = list(expected or ())
    trials = summary.trial_table(records, planned)
    scores = summary.case_scores(summary.long_table(records), trials)
    tasks = summary.by_task(scores, trials)
    specs = {spec.digest: spec for spec in (*planned, *(record.spec for record in records))}
    done = {record.spec.digest: record for record in records if record.status is Status.COMPLETE}
    origins = {record.task.name: record.task.origin for record in records}
    told = []
    for (task, arm), part in trials.groupby(["task", "arm"], sort=False):
        members = [specs[digest] for digest in part["digest"]]
        facts = _settings(members) | _provenance([done[digest] for digest in part["digest"] if digest in done])
        told.append({"task": task, "arm": arm, "origin": origins.get(str(task), "")} | facts)
    frame = tasks.merge(pd.DataFrame(told), on=["task", "arm"], validate="one_to_one")
    return frame[list(COLUMNS)].astype({"layer": "Int64"})


def _settings(specs: Sequence[TrialSpec]) -> dict[str, Any]:
    """What an arm's trials in a task were planned with."""
    return {
        "layer": specs[0].layer,
        "fraction": specs[0].fraction,
        "weights": _distinct(spec.weights.label for spec in specs),
        "weights_sha256": _distinct(sha for spec in specs for sha in _hashes(spec)),
        "data_digest": _distinct(spec.data_digest for spec in specs),
        "split_digest": _distinct(spec.split_digest for spec in specs),
        "settings_digest": _distinct(
            digest_of([spec.train, spec.model, spec.data, spec.block, spec.method]) for spec in specs
        ),
    }


def _hashes(spec: TrialSpec) -> tuple[str, str]:
    """Of the block that was read, and of the one at a second place; empty where there is none."""
    return spec.weights.sha256, spec.block.get("second_sha256", "")


def _provenance(records: Sequence[TrialResult]) -> dict[str, str]:
    """With what the complete trials were run."""
    told = [record.provenance for record in records]
    commits = (f"{one['commit']}{'+changes' * bool(one.get('dirty'))}" for one in told if one.get("commit"))
    versions = (" ".join(f"{k}=={v}" for k, v in sorted(one["versions"].items())) for one in told if "versions" in one)
    return {"commit": _distinct(commits), "versions": _distinct(versions)}


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(value for value in dict.fromkeys(values) if value)
