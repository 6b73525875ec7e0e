"""Records to the tables everyone reads.

A task's score of an arm: seeds are averaged within a case and label, then cases within a label, then labels.
A modality's score is the mean over its tasks, and the overall score the mean over all tasks. Nothing is pooled.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from results import metrics
from results.arms import arm_key, arm_names
from results.record import CONTROLS, Status, TrialResult, TrialSpec
from results.store import atomic_write

METRICS = tuple(metrics.METRICS)
_COUNTS = ("tp", "fp", "fn", "tn")
_TRIAL = ("task", "modality", "backbone", "control", "layer", "weights", "seed", "fold", "fraction")

#: The columns of `results.csv` and `results.parquet`.
COLUMNS = (*_TRIAL, "case", "patient", "label", *_COUNTS, *METRICS)
_TYPES = {"layer": "Int64", "fraction": "float64"} | dict.fromkeys(("seed", "fold", *_COUNTS), "int64")
_ARM = ["backbone", "control", "layer", "fraction"]


def long_table(records: Iterable[TrialResult]) -> pd.DataFrame:
    """A row a complete trial × case × label, with COLUMNS; undefined ratios are missing. Failed trials have no rows."""
    rows: list[tuple[Any, ...]] = []
    for record in records:
        if record.status is Status.COMPLETE:
            trial = tuple(_trial(record.spec, record.task.modality).values())
            rows += [(*trial, c.case, c.patient, c.label, c.tp, c.fp, c.fn, c.tn) for c in record.cases]
    frame = pd.DataFrame.from_records(rows, columns=[name for name in COLUMNS if name not in METRICS])
    text = {name: "str" for name in frame.columns if name not in _TYPES}
    frame = frame.astype(_TYPES | text)
    counts = [frame[name].to_numpy() for name in _COUNTS]
    return frame.assign(**{name: ratio(*counts) for name, ratio in metrics.METRICS.items()})


def write_results(run: Path, frame: pd.DataFrame) -> tuple[Path, Path]:
    """Write the long table as `results.csv` and `results.parquet` into the run folder; return both paths."""
    csv, parquet = Path(run) / "results.csv", Path(run) / "results.parquet"
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    atomic_write(csv, frame.to_csv(index=False, lineterminator="\n").encode())
    atomic_write(parquet, buffer.getvalue())
    return csv, parquet


def trial_table(records: Iterable[TrialResult], expected: Iterable[TrialSpec] | None = None) -> pd.DataFrame:
    """A row a trial that was planned or recorded: its specification, `arm`, `status` and `digest`.

    status is `complete`, `failed` or `missing` (planned, without a record). arm is the name that people read; where a
    backbone was run at several layers, or with several fractions of the data, the name says which. Rows are in the
    order in which tables show them: by task, the baseline first.
    """
    done = {record.spec.digest: record for record in records}
    modality = {record.task.name: record.task.modality for record in done.values()}
    specs = {spec.digest: spec for spec in expected or ()} | {key: record.spec for key, record in done.items()}
    names = arm_names(specs.values())
    rows = [
        _trial(spec, modality.get(spec.task, "unknown"))
        | {"arm": names[arm_key(spec)], "digest": digest}
        | {"status": done[digest].status.value if digest in done else "missing"}
        for digest, spec in sorted(specs.items(), key=lambda item: _order(item[1]))
    ]
    return pd.DataFrame(rows, columns=[*_TRIAL, "arm", "digest", "status"]).astype({"layer": "Int64"})


def arms(trials: pd.DataFrame) -> list[str]:
    """The names of the arms in reading order: the baseline, by backbone what was pre-trained first, references."""
    return list(_by_arm(trials.drop_duplicates("arm"))["arm"])


def case_scores(frame: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The long table with seeds averaged: a row a task × arm × case × label, with METRICS.

    trials is what `trial_table` gives. ValueError where two trials differ in nothing that the tables show: their
    settings differ, and their mean would be a mixture.
    """
    once = ["task", *_ARM, "seed", "fold", "case", "label"]
    twice = frame[frame.duplicated(once)]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"two complete trials of task {row.task}, backbone {row.backbone} ({row.control}), seed {row.seed}, fold "
            f"{row.fold}: their other settings differ; keep runs with different settings in different folders"
        )
    arms = trials.drop_duplicates(_ARM)[[*_ARM, "arm"]]
    named = frame.merge(arms, on=_ARM, how="left", validate="many_to_one")
    keys = ["task", "modality", "arm", "control", "fraction", "label", "case"]
    return named.groupby(keys, sort=False, as_index=False)[list(METRICS)].mean()


def by_task(scores: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """A row a task × arm that was planned or recorded.

    Columns: task, modality, arm, backbone, control, cases, and for each metric `_mean`, `_sd` (over cases, labels
    averaged within a case; missing for one case) and `_difference` (to the baseline, paired on the same cases and
    labels; missing for the baseline itself), then complete, expected and `n of expected` trials.
    """
    keys = ["task", "arm"]
    per_case = scores.groupby([*keys, "case"], sort=False)[list(METRICS)].mean()
    table = pd.concat(
        [
            _average(scores).add_suffix("_mean"),
            per_case.groupby(keys, sort=False).std(ddof=1).add_suffix("_sd"),
            _average(_differences(scores)).add_suffix("_difference"),
            scores.groupby(keys, sort=False)["case"].nunique().rename("cases"),
        ],
        axis=1,
    )
    wanted = trials.groupby([*keys, "modality", "backbone", "control"], sort=False, as_index=False).agg(
        complete=("status", lambda status: (status == "complete").sum()), expected=("status", "size")
    )
    merged = wanted.merge(table, left_on=keys, right_index=True, how="left")
    return _reading_order(merged.assign(cases=merged["cases"].fillna(0).astype(int)), ["task", "modality"], "cases")


def by_modality(tasks: pd.DataFrame) -> pd.DataFrame:
    """A row a modality × arm, then `all` × arm: means over tasks, `_sd` over tasks. tasks is what `by_task` gives.

    The column `tasks` counts the tasks in which the arm has a score.
    """
    stacked = pd.concat([tasks, tasks.assign(modality="all")])
    grouped = stacked.groupby(["modality", "arm", "backbone", "control"], sort=False)
    means = [f"{name}_mean" for name in METRICS]
    table = pd.concat(
        [
            grouped[means + [f"{name}_difference" for name in METRICS]].mean(),
            grouped[means].std(ddof=1).rename(columns=lambda name: name.replace("_mean", "_sd")),
            grouped[["complete", "expected"]].sum(),
            grouped["dice_mean"].count().rename("tasks"),
        ],
        axis=1,
    )
    table = _by_arm(table.reset_index())
    table = table.sort_values(
        "modality", key=lambda names: names.map(lambda name: (name == "all", name)), kind="stable"
    )
    return _reading_order(table.reset_index(drop=True), ["modality"], "tasks")


def _by_arm(table: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of their arms; those of one arm stay as they are."""
    keys = {"_kind": table["control"].map(_kind), "_name": table["backbone"]}
    keys["_rank"] = table["control"].map(list(CONTROLS).index)
    return table.assign(**keys).sort_values(list(keys), kind="stable")[list(table.columns)]


def _reading_order(table: pd.DataFrame, names: list[str], size: str) -> pd.DataFrame:
    """Put the columns into the order in which they are read, and add `n of expected`."""
    of = table["complete"].astype(str) + " of " + table["expected"].astype(str)
    values = [f"{name}_{kind}" for name in METRICS for kind in ("mean", "sd", "difference")]
    columns = [*names, "arm", "backbone", "control", size, *values, "complete", "expected", "n of expected"]
    return table.assign(**{"n of expected": of})[columns]


def _average(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over cases within each label, then over labels; undefined values are left out of either mean."""
    per_label = scores.groupby(["task", "arm", "label"], sort=False)[list(METRICS)].mean()
    return per_label.groupby(["task", "arm"], sort=False).mean()


def _differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Every other arm's scores minus the baseline's, on the same task, fraction, case and label."""
    keys = ["task", "fraction", "case", "label"]
    baseline = scores[scores["control"] == "none"].groupby(keys, as_index=False)[list(METRICS)].mean()
    pairs = scores[scores["control"] != "none"].merge(baseline, on=keys, suffixes=("", "_none"))
    return pairs.assign(**{name: pairs[name] - pairs[f"{name}_none"] for name in METRICS})


def _kind(control: str) -> int:
    """The baseline comes first, and the reference models after the backbones."""
    return {"none": 0, "reference": 2}.get(control, 1)


def _trial(spec: TrialSpec, modality: str) -> dict[str, Any]:
    values = (spec.task, modality, spec.backbone, spec.control, spec.layer, spec.weights.label)
    return dict(zip(_TRIAL, (*values, spec.seed, spec.fold, spec.fraction), strict=True))


def _order(spec: TrialSpec) -> tuple[Any, ...]:
    layer = -1 if spec.layer is None else spec.layer
    arm = (_kind(spec.control), spec.backbone, list(CONTROLS).index(spec.control), layer, -spec.fraction)
    return (spec.task, *arm, spec.seed, spec.fold, spec.digest)
