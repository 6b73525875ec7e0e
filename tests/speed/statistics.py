"""The statistics of a large table, against the same bootstrap as a plain loop over scipy's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.speed.harness import Reading, alternate, measurement, say, versioned

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DRAWS = 10_000
#: Ours takes at most this share of the loop's time.
SHARE = 1 / 10
#: Ends of two intervals that differ by more standard errors than this are not the same bootstrap. Of 1,300 ends, chance
#: gives one in ten thousand tables.
ERRORS = 5.5


def large_table() -> tuple[pd.DataFrame, pd.DataFrame]:
    """2,000 trials × 50 cases × 2 labels: 200,000 scores."""
    from tests.results import generated

    say("  making 2,000 trials of 50 cases")
    return generated.study(**generated.LARGE)


def paired_differences(frame: pd.DataFrame, rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """Each row's differences, as pandas finds them."""
    key = ["task", "backbone", "control"]
    cases = frame.groupby([*key, "case"])["dice"].mean().unstack("case")
    controls = {"baseline": "none", "random": "random", "mlp": "mlp"}
    for row in rows.itertuples():
        backbone = "none" if row.question == "baseline" else row.backbone
        other = cases.loc[(row.task, backbone, controls[row.question])]
        yield (cases.loc[(row.task, row.backbone, row.control)] - other).to_numpy()


def plain_loop(differences: list[np.ndarray]) -> np.ndarray:
    """(rows, 2): scipy's BCa intervals of the means, one row at a time."""
    import numpy as np
    from scipy import stats

    rng = np.random.default_rng(0)
    results = (stats.bootstrap((row,), np.mean, n_resamples=DRAWS, method="BCa", rng=rng) for row in differences)
    return np.array([tuple(result.confidence_interval) for result in results])


def errors_apart(ours: np.ndarray, theirs: np.ndarray, differences: list[np.ndarray]) -> float:
    """The largest distance between the ends of two tables of intervals, in Monte Carlo standard errors.

    An end's own error: that of a quantile, and of the bias-correction, which moves it twice as far as it errs itself;
    as if the resampled means were normal. Two ends are independent.
    """
    import numpy as np
    from scipy import stats

    level = 0.025
    density = stats.norm.pdf(stats.norm.ppf(level))
    unit = np.sqrt(2 * (level * (1 - level) / density**2 + 4 * np.pi / 2) / DRAWS)
    deviations = np.array([row.std() / np.sqrt(len(row)) for row in differences])
    return float((np.abs(ours - theirs) / (unit * deviations)[:, None]).max())


@measurement(
    "statistics-of-a-table",
    "pairs, intervals, tests and corrections of 200,000 scores: 10 times as fast as the bootstrap alone in a loop",
    f"a loop over scipy.stats.bootstrap, {versioned('scipy')}",
    SHARE,
)
def statistics_of_a_table(runs: int) -> Reading:
    from results import statistics

    frame, trials = large_table()
    rows = statistics.comparisons(frame, trials, draws=DRAWS)
    differences = list(paired_differences(frame, rows))
    apart = errors_apart(rows[["low", "high"]].to_numpy(), plain_loop(differences), differences)
    if apart > ERRORS:
        raise AssertionError(f"the intervals are {apart:.1f} standard errors apart; at most {ERRORS} are chance")
    mine, theirs = alternate(
        lambda: statistics.comparisons(frame, trials, draws=DRAWS), lambda: plain_loop(differences), runs
    )
    note = f"{len(rows)} comparisons, {theirs / mine:.1f} times as fast; ends at most {apart:.1f} standard errors apart"
    return Reading(mine, theirs, note)
