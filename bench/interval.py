"""How often a trial makes a checkpoint: `--checkpoint-every`. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench import budget

NEVER = "never"
EXAMPLES = "an interval such as 30s, 5m, `500 steps` or `2 epochs`"


@dataclass(frozen=True)
class Interval:
    """Between two checkpoints: so many seconds, or steps; `never` has neither."""

    seconds: float = 0.0
    steps: int = 0

    @classmethod
    def of(cls, text: str, cases: int, batch: int) -> Interval:
        """Of `5m`, `2 epochs` (passes over so many training cases, in batches of so many) or `never`."""
        if text.strip().lower() == NEVER:
            return cls()
        every = budget.parse(text, "--checkpoint-every", EXAMPLES)
        return cls(seconds=every.amount) if every.unit == "s" else cls(steps=every.steps(cases, batch))

    def __bool__(self) -> bool:
        return bool(self.seconds or self.steps)
