"""A run as the report sees it: its records, and everything that is computed of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports import answers
from results import costs, ranking, statistics, store, summary, sweeps
from results.metrics import PROFILES
from results.record import TrialResult, TrialSpec


class ReportError(ValueError):
    """A report that cannot be made; the message says of which folder and what would work."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """arms are in reading order, metrics are those of the profile; means: of `statistics.means_of_each`, of them all.

    The other frames are what the functions of `results` give that are named after them.
    """

    folder: Path
    records: Sequence[TrialResult]
    metrics: tuple[str, ...]
    arms: list[str]
    phantoms: frozenset[str]
    trials: pd.DataFrame
    frame: pd.DataFrame
    scores: pd.DataFrame
    tasks: pd.DataFrame
    labels: pd.DataFrame
    modalities: pd.DataFrame
    means: pd.DataFrame
    asked: answers.Answers
    ranks: pd.DataFrame
    stability: pd.DataFrame
    costs: pd.DataFrame

    @property
    def dice(self) -> pd.DataFrame:
        """The means of Dice."""
        return self.means[self.means["metric"] == "dice"]

    @property
    def significance(self) -> pd.DataFrame:
        """Task × arm → the answer to the question of the baseline."""
        return ranking.significance_map(self.asked.comparisons)

    def sweep(self, of: str) -> pd.DataFrame:
        """What was swept, of `results.sweeps`; empty where it was not."""
        return sweeps.sweep(self.trials, self.dice, of)

    @property
    def ablations(self) -> pd.DataFrame:
        """The variants of the model, of `results.sweeps`; empty where there are none."""
        return sweeps.ablations(self.trials, self.dice)


def gather(run: Path, expected: Iterable[TrialSpec] | None, profile: str) -> Gathered:
    """Read a run folder and compute. ReportError where it has no record, and for an unknown profile."""
    if profile not in PROFILES:
        raise ReportError(f"unknown profile {profile!r}; known: {', '.join(PROFILES)}")
    records = store.read(run)
    if not records:
        raise ReportError(f"no trial record in {run / 'trials'}; give the folder that `bench run --out` wrote")
    trials = summary.trial_table(records, expected)
    frame = summary.long_table(records)
    scores = summary.case_scores(frame, trials)
    tasks = summary.by_task(scores, trials)
    modalities = summary.by_modality(tasks)
    labels = summary.by_label(scores, trials)
    phantoms = frozenset(record.task.name for record in records if record.task.origin == "phantom")
    return Gathered(
        folder=run,
        records=records,
        metrics=PROFILES[profile],
        arms=summary.arms(trials),
        phantoms=phantoms,
        trials=trials,
        frame=frame,
        scores=scores,
        tasks=tasks,
        modalities=modalities,
        labels=labels,
        means=statistics.means_of_each(frame, trials, PROFILES[profile]),
        asked=answers.ask(frame, trials, set(phantoms), _more(profile)),
        ranks=ranking.ranks(frame, trials),
        stability=ranking.stability(frame, trials),
        costs=costs.by_arm(records, trials, modalities),
    )


def _more(profile: str) -> tuple[str, ...]:
    """The metrics whose differences are tested beside those in Dice: what the third version reports of surfaces."""
    return ("hd95", "nsd") if profile == "v3" else ()
