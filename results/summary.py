"""Records to the tables everyone reads.

A task's score of an arm: seeds are averaged within a case and label, then cases within a label, then labels.
A modality's score is the mean over its tasks, and the overall score the mean over all tasks. Nothing is pooled.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv

from results import metrics
from results.arms import Arm, arm_key, arm_names, differing, fits, variants
from results.record import CONTROLS, CaseScore, Status, TrialResult, TrialSpec
from results.store import atomic_write

METRICS = tuple(metrics.METRICS)
_COUNTS = ("tp", "fp", "fn", "tn")
_DISTANCES = ("nsd", "hd95", "diagonal")
_TRIAL = ("task", "modality", "backbone", "control", "layer", "weights", "seed", "fold", "fraction")

#: The columns of `results.csv` and `results.parquet`.
COLUMNS = (*_TRIAL, "digest", "case", "patient", "label", *_COUNTS, *METRICS, "diagonal")
_TYPES = {"layer": "Int64"} | dict.fromkeys(("fraction", *_DISTANCES), "float64")
_TYPES |= dict.fromkeys(("seed", "fold", *_COUNTS), "int64")


def long_table(records: Iterable[TrialResult]) -> pd.DataFrame:
    """A row a complete trial × case × label, with COLUMNS; what is undefined is missing. Failed trials have no rows."""
    rows: list[tuple[Any, ...]] = []
    for record in records:
        if record.status is Status.COMPLETE:
            trial = (*_trial(record.spec, record.task.modality).values(), record.spec.digest)
            rows += [(*trial, *_score(case)) for case in record.cases]
    names = [*_TRIAL, "digest", "case", "patient", "label", *_COUNTS, *_DISTANCES]
    frame = pd.DataFrame.from_records(rows, columns=names)
    frame = frame.astype(_TYPES | {name: "str" for name in names if name not in _TYPES})
    return with_ratios(frame)


def with_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """A long table with every ratio computed anew from its counts and distances; columns in the order of COLUMNS."""
    counts = [frame[name].to_numpy() for name in _COUNTS]
    ratios = {name: metric.ratio(*counts) for name, metric in metrics.METRICS.items() if metric.ratio}
    ratios["hd95_penalised"] = metrics.penalised(frame["hd95"], frame["diagonal"], *counts)
    return frame.assign(**ratios)[[name for name in COLUMNS if name in frame or name in ratios]]


def write_results(run: Path, frame: pd.DataFrame) -> tuple[Path, Path]:
    """Write the long table as `results.csv` and `results.parquet` into the run folder; return both paths."""
    csv, parquet = Path(run) / "results.csv", Path(run) / "results.parquet"
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    atomic_write(csv, _csv(frame))
    atomic_write(parquet, buffer.getvalue())
    return csv, parquet


def _csv(frame: pd.DataFrame) -> bytes:
    """The frame as CSV, texts in quotes only if one of them needs it; ten times as fast as pandas writes it."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    head = ",".join(frame.columns) + "\n"
    for style in ("none", "needed"):
        buffer = io.BytesIO(head.encode())
        buffer.seek(0, io.SEEK_END)
        try:
            arrow_csv.write_csv(table, buffer, arrow_csv.WriteOptions(include_header=False, quoting_style=style))
        except pa.ArrowInvalid:  # a text holds a comma, a quote or a line's end
            continue
        return buffer.getvalue()
    raise AssertionError("quoted texts can always be written")


def trial_table(records: Iterable[TrialResult], expected: Iterable[TrialSpec] | None = None) -> pd.DataFrame:
    """A row a trial that was planned or recorded: its specification, `arm`, `variant`, `settings`, `status`, `digest`.

    status is `complete`, `failed`, `diverged` or `missing` (planned, without a record). arm is the name that people
    read; where a backbone was run at several layers, with several fractions of the data, or with several settings of
    the model, the name says which; variant is what it says of settings, which `results.arms.Arm` has as JSON. Rows are
    in the order in which tables show them: by task, the baseline first.
    """
    done = {record.spec.digest: record for record in records}
    modality = {record.task.name: record.task.modality for record in done.values()}
    specs = {spec.digest: spec for spec in expected or ()} | {key: record.spec for key, record in done.items()}
    names, told = arm_names(specs.values()), variants(specs.values())
    rows = []
    for digest, spec in sorted(specs.items(), key=lambda item: _order(item[1])):
        arm = arm_key(spec)
        named = {"arm": names[arm], "variant": told[arm], "settings": arm.settings, "digest": digest}
        status = done[digest].status.value if digest in done else "missing"
        rows.append(_trial(spec, modality.get(spec.task, "unknown")) | named | {"status": status})
    columns = [*_TRIAL, "arm", "variant", "settings", "digest", "status"]
    return pd.DataFrame(rows, columns=columns).astype({"layer": "Int64"})


def described(trials: pd.DataFrame) -> dict[str, Arm]:
    """Name → the arm itself, in reading order. trials is what `trial_table` gives."""
    rows = trials.drop_duplicates("arm").set_index("arm").loc[arms(trials)]
    columns = (rows[name] for name in ("backbone", "control", "layer", "fraction", "settings"))
    return {
        str(name): Arm(backbone, control, None if pd.isna(layer) else int(layer), fraction, settings)
        for name, backbone, control, layer, fraction, settings in zip(rows.index, *columns, strict=True)
    }


def controls_of(trials: pd.DataFrame, control: str) -> dict[str, str]:
    """Arm → the arm that is its own control of this kind (`none`: its baseline); without those that have none."""
    return controls_among(described(trials), control)


def controls_among(found: Mapping[str, Arm], control: str) -> dict[str, str]:
    """`controls_of`, where the arms are known, as `described` gives them."""
    named = differing(found.values())
    others = {name: arm for name, arm in found.items() if arm.control == control}
    pairs = {name: [other for other, its in others.items() if fits(arm, its, named)] for name, arm in found.items()}
    return {name: rivals[0] for name, rivals in pairs.items() if rivals and found[name].control != control}


def arms(trials: pd.DataFrame) -> list[str]:
    """The names of the arms in reading order: the baseline, by backbone what was pre-trained first, references."""
    return list(_by_arm(trials.drop_duplicates("arm"))["arm"])


def case_scores(frame: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The long table with seeds averaged: a row a task × arm × case × label, with METRICS.

    trials is what `trial_table` gives. ValueError where two trials differ in nothing that the tables show: their
    settings differ, and their mean would be a mixture.
    """
    named = frame.assign(arm=frame["digest"].map(trials.set_index("digest")["arm"]))
    twice = named[named.duplicated(["task", "arm", "seed", "fold", "case", "label"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"two complete trials of task {row.task}, backbone {row.backbone} ({row.control}), seed {row.seed}, fold "
            f"{row.fold}: their other settings differ; keep runs with different settings in different folders"
        )
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
            _average(_differences(scores, trials)).add_suffix("_difference"),
            scores.groupby(keys, sort=False)["case"].nunique().rename("cases"),
        ],
        axis=1,
    )
    wanted = trials.groupby([*keys, "modality", "backbone", "control"], sort=False, as_index=False).agg(
        complete=("status", lambda status: (status == "complete").sum()), expected=("status", "size")
    )
    merged = wanted.merge(table, left_on=keys, right_index=True, how="left")
    return _reading_order(merged.assign(cases=merged["cases"].fillna(0).astype(int)), ["task", "modality"], "cases")


def by_label(scores: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """A row a task × label × arm, of the tasks that have several labels: empty where none has.

    The columns are those of `by_task` after a first one, `class`, which reads `<task> · <label>`; means, SD and
    differences are over the cases in which the label has a value.
    """
    several = scores[scores.groupby("task")["label"].transform("nunique") > 1]
    keys = ["task", "label", "arm"]
    means, differences = (part.groupby(keys, sort=False) for part in (several, _differences(several, trials)))
    table = pd.concat(
        [
            means[list(METRICS)].mean().add_suffix("_mean"),
            means[list(METRICS)].std(ddof=1).add_suffix("_sd"),
            differences[list(METRICS)].mean().add_suffix("_difference"),
            means["case"].nunique().rename("cases"),
        ],
        axis=1,
    ).reset_index()
    planned = by_task(scores, trials)[["task", "modality", "arm", "backbone", "control", "complete", "expected"]]
    merged = planned.merge(table, on=["task", "arm"])
    of_label = {
        key: place for place, key in enumerate(dict.fromkeys(zip(several["task"], several["label"], strict=True)))
    }
    places = [of_label[key] for key in zip(merged["task"], merged["label"], strict=True)]
    merged = merged.assign(_place=places, **{"class": merged["task"] + " · " + merged["label"]})
    return _reading_order(merged.sort_values("_place", kind="stable"), ["class", "task", "modality"], "cases")


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


def _differences(scores: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Every other arm's scores minus those of its baseline, on the same task, case and label."""
    keys = ["task", "against", "case", "label"]
    against = scores["arm"].map(controls_of(trials, "none")).astype(object)  # all missing, it would be of numbers
    rivals = scores.assign(against=against).dropna(subset=["against"]).astype({"against": "str"})
    baseline = scores[scores["control"] == "none"].rename(columns={"arm": "against"})[[*keys, *METRICS]]
    pairs = rivals.merge(baseline, on=keys, suffixes=("", "_none"))
    return pairs.assign(**{name: pairs[name] - pairs[f"{name}_none"] for name in METRICS})


def _score(c: CaseScore) -> tuple[Any, ...]:
    """One row's part; written out, because `dataclasses.astuple` takes ten times as long."""
    return (c.case, c.patient, c.label, c.tp, c.fp, c.fn, c.tn, c.nsd, c.hd95, c.diagonal)


def _kind(control: str) -> int:
    """The baseline comes first, and the reference models after the backbones."""
    return {"none": 0, "reference": 2}.get(control, 1)


def _trial(spec: TrialSpec, modality: str) -> dict[str, Any]:
    values = (spec.task, modality, spec.backbone, spec.control, spec.layer, spec.weights.label)
    return dict(zip(_TRIAL, (*values, spec.seed, spec.fold, spec.fraction), strict=True))


def _order(spec: TrialSpec) -> tuple[Any, ...]:
    layer = -1 if spec.layer is None else spec.layer
    arm = (_kind(spec.control), spec.backbone, list(CONTROLS).index(spec.control), layer, -spec.fraction)
    return (spec.task, *arm, arm_key(spec).settings, spec.seed, spec.fold, spec.digest)
