"""How long a trial trains: a number of steps, of epochs, or a wall time. No torch.

An epoch is one pass over the training cases, each of which gives one crop. That is the paper's epoch (arXiv 2410.02458)
and not nnU-Net's, which is 250 steps whatever the number of cases.

Wall time is fair to models of different speed, and depends on the machine: how many steps fit into it does not repeat,
so neither do a trial's numbers, bit by bit. The record says so (`provenance.repeatable`) and how many steps were made
(`cost.steps`). Time runs from the first step to the end of the step in which it is up; preparing and scoring are free.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_UNITS = {
    **dict.fromkeys(("step", "steps"), ("steps", 1)),
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1)),
    **dict.fromkeys(("s", "sec", "second", "seconds"), ("s", 1)),
    **dict.fromkeys(("m", "min", "minute", "minutes"), ("s", 60)),
    **dict.fromkeys(("h", "hour", "hours"), ("s", 3600)),
}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
EXAMPLES = "a budget such as 90s, 10m, 2h, `500 steps` or `20 epochs`"


@dataclass(frozen=True)
class Budget:
    """amount of unit, which is `steps`, `epochs` or `s`."""

    amount: float
    unit: str

    @property
    def text(self) -> str:
        """The form that records hold: `600 s`, whatever it was asked for as."""
        return f"{self.amount:.6f}".rstrip("0").rstrip(".") + f" {self.unit}"

    def steps(self, cases: int, batch: int) -> int:
        """The steps of a budget of steps or epochs: as many as it takes to see each case once an epoch."""
        assert self.unit != "s", "time is not steps"
        return math.ceil(self.amount * cases / batch) if self.unit == "epochs" else int(self.amount)


def parse(text: str, name: str = "train.budget", wanted: str = EXAMPLES) -> Budget:
    """Read `10m`, `500 steps`; ValueError, which begins with the setting's name, if it is none of what is wanted."""
    found = _FORM.fullmatch(text.strip().lower())
    unit, scale = _UNITS.get(found[2], ("", 0)) if found else ("", 0)
    if not (found and unit):
        raise ValueError(f"{name}: {text!r} is not {wanted}")
    amount = round(float(found[1]) * scale, 6)
    if not 0 < amount < math.inf or (unit != "s" and amount != int(amount)):
        least = "above 0" if unit == "s" else "a whole number from 1"
        raise ValueError(f"{name}: {text!r}: the number must be {least}")
    return Budget(amount, unit)


def only_one(train: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Resolved settings with one budget in force: `steps`, or else `budget` and no steps.

    given holds the settings that were asked for: they displace the preset's. ValueError if both were asked for.
    """
    if not ("budget" in given and train["budget"]):
        return dict(train) | ({"budget": ""} if "steps" in given else {})
    budget = parse(train["budget"])
    if "steps" in given and train["steps"]:
        raise ValueError(
            f"--steps {train['steps']} and --budget {train['budget']}: a trial has one budget; leave one out"
        )
    if budget.unit == "steps":
        return dict(train) | {"steps": int(budget.amount), "budget": ""}
    return dict(train) | {"steps": 0, "budget": budget.text}


def words(train: Mapping[str, Any]) -> str:
    """The budget of resolved settings, as people read it."""
    return train.get("budget") or f"{train['steps']} steps"
