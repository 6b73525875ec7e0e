"""One sample of a search: a trial on the inner split, scored at its rungs. It knows nothing of Ray.

The score is the mean foreground Dice of the inner validation cases, made as a trial's is: sliding windows over the
whole image, on the native grid; cases are averaged within a class, then the classes.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.data.prepared import PreparedCase
from bench.failures import advised
from bench.tuning.samples import Rung, State
from bench.tuning.search import Search
from bench.tuning.space import Values
from results import metrics
from results.record import TrialSpec

#: Called as a sample goes on: with `share` after each epoch, with `rung` too where it was scored, and with `state` and
#: `error` where it ended badly. It may end the training by raising SystemExit, which is no error.
Tell = Callable[[dict[str, Any]], None]


def attempt(search: Search, values: Values, tell: Tell) -> None:
    """Train and score a sample; an error is told, not raised."""
    from bench.errors import PredictionError
    from bench.train import Diverged

    try:
        run_sample(search, values, tell)
    except Exception as error:
        # A network that gives no numbers has diverged, whether its loss shows it or its output.
        state = State.DIVERGED if isinstance(error, Diverged | PredictionError) else State.FAILED
        text = "".join(traceback.format_exception(error))
        tell({"share": 1.0, "state": state.value, "error": advised(text)})
    finally:
        gc.collect()  # an engine is a ring of references, and a process serves many samples


def run_sample(search: Search, values: Values, tell: Tell) -> None:
    """Prepare by the inner training cases alone, train on them, and score the inner validation cases at each rung."""
    from bench import engine as deepspeed_engine
    from bench.train import train
    from bench.trial import assemble, prepare_sides

    job = search.job(values)
    rank, workers = deepspeed_engine.join()
    _, training, validation = prepare_sides(job, *search.sides())
    engine, sampler, settings = assemble(job, training, workers)
    left = list(search.shares)

    def on_epoch(entry: dict[str, Any], share: float) -> None:
        reached = [rung for rung in left if share >= rung - 1e-9]
        if not reached:
            return tell({"share": share})
        del left[: len(reached)]  # epochs may be longer than the way between two rungs
        dice = inner_dice(engine.module, validation, job.spec, len(job.info.labels))
        engine.train()  # scoring turned dropout off
        tell({"share": share, "rung": asdict(Rung(share, entry["step"], dice))})

    train(engine, sampler, settings, rank, workers, on_epoch)


def inner_dice(model: Any, cases: Sequence[PreparedCase], spec: TrialSpec, labels: int) -> float:
    """Mean over labels of the mean over cases; a case without the label, in neither mask, is left out."""
    from bench.data.folder import read_label
    from bench.evaluate import Inference, predict_native
    from bench.scoring.counts import confusion

    how = Inference.of(spec, model.config.image)
    tables = []
    for case in cases:
        prediction = predict_native(model, case.image(), case.grid, how, case.id)
        tables.append(confusion(prediction, read_label(case.case), labels + 1))
    table_NKK = np.stack(tables)
    hit_NK = np.diagonal(table_NKK, axis1=1, axis2=2)[:, 1:]
    missed_NK, extra_NK = table_NKK.sum(2)[:, 1:] - hit_NK, table_NKK.sum(1)[:, 1:] - hit_NK
    dice_NK = metrics.dice(hit_NK, extra_NK, missed_NK, np.zeros_like(hit_NK))
    of_label = [column[np.isfinite(column)].mean() for column in dice_NK.T if np.isfinite(column).any()]
    return float(np.mean(of_label))
