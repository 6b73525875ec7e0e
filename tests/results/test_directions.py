"""Where less of a metric is better: ranks, verdicts and maps turn round, and differences do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from results import ranking, statistics, verdicts
from results.verdicts import Answer
from tests.results import generated

GAINS = {"pretrained": 0.15, "random": 0.02, "mlp": 0.05}


@pytest.fixture(scope="module")
def both():
    """A study whose HD95 says exactly what its Dice says: 100 mm × (1 − Dice)."""
    frame, trials = generated.study(tasks=4, cases=14, seeds=2, noise=0.03, gain=GAINS)
    return frame.assign(hd95=100 * (1 - frame["dice"])), trials


def test_the_best_has_the_least_distance(both):
    by_dice, by_distance = (ranking.ranks(*both, metric, draws=500) for metric in ("dice", "hd95"))
    pd.testing.assert_frame_equal(by_dice, by_distance)
    assert by_dice["arm"][0] == "smol"


def test_seeds_agree_as_much_by_either(both):
    pd.testing.assert_frame_equal(*(ranking.stability(*both, metric) for metric in ("dice", "hd95")))


def test_answers_turn_round_and_differences_keep_their_sign(both):
    dice, distance = (statistics.comparisons(*both, metric, draws=2000) for metric in ("dice", "hd95"))
    np.testing.assert_allclose(distance["mean"], -100 * dice["mean"], atol=1e-8)
    maps = [ranking.significance_map(rows, metric=metric) for rows, metric in ((dice, "dice"), (distance, "hd95"))]
    pd.testing.assert_frame_equal(*maps)
    assert (maps[0]["smol"] == Answer.YES).all()
    told = [verdicts.verdicts(rows, metric=metric) for rows, metric in ((dice, "dice"), (distance, "hd95"))]
    pd.testing.assert_frame_equal(*told)
    assert told[0]["gain"].all()


def test_several_metrics_at_once_are_as_one_by_one(both):
    at_once = statistics.means_of_each(*both, ("dice", "hd95"), draws=1000)
    for metric, rows in at_once.groupby("metric"):
        alone = statistics.means(*both, str(metric), draws=1000)
        pd.testing.assert_frame_equal(rows.drop(columns="metric").reset_index(drop=True), alone)
