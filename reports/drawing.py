"""Every figure that a run has data for, one after the other, with its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from reports import activations, cases, facts
from reports.album import Words
from reports.figures import cost, curves, intervals, scores
from reports.gathered import Gathered

Drawn = tuple[str, Words, Figure | None]


def drawn(
    data: Gathered,
    told: facts.Facts,
    pictured: pd.DataFrame,
    maps: Sequence[activations.TaskMaps],
    problems: list[str],
) -> Iterator[Drawn]:
    """Name, words and figure (None where there is no data for it), in reading order within each section.

    pictured is what `shown_trials` gives, maps what `activations.read` does. What cannot be shown joins problems.
    """
    if not data.scores.empty:
        yield from _of_scores(data, told.banner)
    yield "cost", _COST, cost.cost(data.costs, data.arms, told.banner)
    for of, (name, words, axis) in _SWEEPS.items():
        yield name, words, curves.sweep(data.sweep(of), axis, told.banner)
    yield "ablations", _ABLATIONS, curves.ablations(data.ablations, told.banner)
    for value, words in _LEARNING.items():
        figure = curves.learning_curves(data.records, data.trials, data.arms, value, told.banner)
        yield f"learning_{value}", words, figure
    yield from _of_cases(data, told, pictured, problems)
    for one in maps:
        words = Words(one.task, one.caption, "activations")
        yield f"activations_{one.task}", words, activations.draw(one, told.banner)


def _of_scores(data: Gathered, warning: str) -> Iterator[Drawn]:
    yield "dice", _DICE, scores.dice_by_task(data.scores, data.arms, warning)
    yield "dice_map", _DICE_MAP, scores.dice_map(data.tasks, data.arms, warning)
    yield "radar", _RADAR, scores.radar(data.tasks, data.arms, warning)
    yield "difference", _DIFFERENCE, scores.difference_map(data.tasks, data.arms, warning)
    yield "forest", _FOREST, intervals.forest(data.asked.comparisons, data.asked.overall, data.arms, warning)
    yield "ranks", _RANKS, intervals.ranks(data.ranks, data.arms, warning)
    yield "significance", _SIGNIFICANCE, intervals.significance(data.significance, data.arms, warning)


def _of_cases(data: Gathered, told: facts.Facts, pictured: pd.DataFrame, problems: list[str]) -> Iterator[Drawn]:
    infos = {record.task.name: record.task for record in data.records}
    for task, shown, missing in cases.task_cases([data.folder], pictured, data.trials):
        problems += missing
        notice = told.notices.get(task, "")
        below = " ".join(dict.fromkeys(text for text in (told.banner, notice) if text))
        caption = f"{shown.caption} {notice}".strip()
        yield f"cases_{task}", Words(task, caption, "cases"), cases.overlay(shown, infos[task].labels, below)


_DICE = Words(
    "Dice by task",
    "A small point is a held-out case, its classes averaged; the large one is the arm's mean.",
    "by_task",
)
_DICE_MAP = Words("Mean Dice", "Arm by task; the lighter the higher.", "by_task")
_RADAR = Words(
    "Dice on a radar", "Mean Dice, a spoke a task. The rim and the centre are not 0 and 1: read the rings.", "by_task"
)
_DIFFERENCE = Words("Difference to the baseline", "Mean Dice minus that of the baseline on the same cases.", "by_task")
_FOREST = Words(
    "Difference to the baseline with 95 % intervals",
    "Filled: the difference is shown (interval on one side of 0, and p below 0.05 after Holm's correction); open: it "
    "is not. Over all tasks the interval is of a bootstrap over tasks and cases.",
    "statistics",
)
_RANKS = Words(
    "Ranks", "Mean rank of Dice over tasks with its 95 % interval (bootstrap over tasks and cases).", "ranking"
)
_SIGNIFICANCE = Words(
    "Where a difference to the baseline is shown",
    "Better or worse: interval and corrected p agree. A dot is no proof of equality.",
    "ranking",
)
_COST = Words(
    "Cost against Dice",
    "Hours of one trial (preparing, training, scoring; times workers and their threads) and mean Dice over all tasks.",
    "cost",
)
_ABLATIONS = Words("Variants of the segmenter", "Mean Dice over all tasks with its 95 % interval.", "ablations")
_LOSS = Words(
    "Training loss",
    "Mean over the training crops of an epoch. The line is the mean over an arm's trials, the band goes from the "
    "lowest to the highest.",
    "training",
)
_TRAINING_DICE = Words(
    "Training Dice", "On training crops, not on held-out cases; lines and bands as above.", "training"
)
_PACE = Words(
    "Samples a second",
    "Crops trained on in an epoch, by its time; lines and bands as above. Trials that share a machine slow each other.",
    "training",
)
_VALIDATION_DICE = Words(
    "Validation Dice while training",
    "On a few random crops of held-out cases after an epoch: a rough course. Nothing was decided by it, and no table "
    "is made of it: scores are of whole cases. Lines and bands as above.",
    "training",
)
#: What `curves.learning_curves` draws → its words.
_LEARNING = {
    "loss": _LOSS,
    "dice": _TRAINING_DICE,
    "validation_dice": _VALIDATION_DICE,
    "samples_per_second": _PACE,
}
_BARS = "Mean Dice with its 95 % interval; dotted: the arm's baseline where that does not vary with it."
#: What was swept → the figure's name, its words, and its axis.
_SWEEPS = {
    "fraction": ("few_shot", Words("Dice with few cases", _BARS, "few_shot"), "share of the training cases"),
    "layer": ("layers", Words("Dice by layer of the block", _BARS, "layers"), "layer, from 0"),
    "placement": ("placements", Words("Dice by place of the block", _BARS, "placements"), "place of the block"),
}
