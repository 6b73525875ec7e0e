"""`bench rescore`: every ratio again from the stored counts, and what that changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.run import write_outputs
from bench.show import require_run
from bench.study import StudyError
from results import store, summary

_KEY = ["task", "backbone", "control", "layer", "fraction", "seed", "fold", "digest", "case", "label"]
_VALUES = [name for name in summary.COLUMNS if name in {"tp", "fp", "fn", "tn", "diagonal", *summary.METRICS}]


def rescore(run: Path) -> list[str]:
    """Write results and report of a run anew; say, a line each, what is other than in the results.csv that was there.

    No model is asked: counts and distances are those of the records. StudyError where there is no record.
    """
    records = store.read(require_run(run))
    if not records:
        raise StudyError(f"{run}: has no trial record yet; run its study first")
    before = run / "results.csv"
    old = _read(before) if before.exists() else None
    page = write_outputs(run)
    new = _read(before)
    told = [f"{before}: written, there was none"] if old is None else changes(old, new)
    return [f"{len(new)} scores of {new['case'].nunique()} cases, from {len(records)} records", *told, str(page)]


def changes(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """What differs between two long tables: values by column, rows, columns."""
    columns = [name for name in _VALUES if name in old and name in new]
    key = [*_KEY, "digest"] if "digest" in old else _KEY  # which tells variants of one arm apart
    both = old.merge(new, on=key, suffixes=("_old", "_new"), how="outer", indicator="side")
    same = both[both["side"] == "both"]
    counts = {name: _different(same[f"{name}_old"], same[f"{name}_new"]) for name in columns}
    where = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    told = [f"{sum(counts.values())} of {len(same) * len(columns)} values changed" + f": {where}" * bool(where)]
    for side, words in (("right_only", "new"), ("left_only", "gone: no record has them")):
        if rows := int((both["side"] == side).sum()):
            told.append(f"{rows} rows {words}")
    if added := [name for name in _VALUES if name in new and name not in old]:
        told.append(f"columns new: {', '.join(added)}")
    return told


def _different(old: pd.Series, new: pd.Series) -> int:
    one, other = old.to_numpy(dtype=float, na_value=np.nan), new.to_numpy(dtype=float, na_value=np.nan)
    return int((~((one == other) | (np.isnan(one) & np.isnan(other)))).sum())


def _read(path: Path) -> pd.DataFrame:
    """The long table as it was written; `None` and `nan` in names are names."""
    try:
        names = dict.fromkeys(("task", "backbone", "control", "digest", "case", "label"), "str")
        kept = {"keep_default_na": False, "na_values": [""]}
        frame = pd.read_csv(path, float_precision="round_trip", low_memory=False, dtype=names, **kept)
        return frame.astype(names)
    except (ValueError, KeyError) as error:
        raise StudyError(f"{path}: is no table of scores ({error}); delete it and run this again") from error
