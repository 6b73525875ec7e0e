"""When a checkpoint is made during training, and how training is taken up from one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench import engine_state, provenance, randomness
from bench.checkpoints import Checkpoints, Say
from bench.course import Course
from bench.interval import Interval


class Nothing:
    """Keeps nothing, and is never asked to stop."""

    kept = False

    def take_up(self, engine: Any, course: Course) -> None: ...

    def due(self, course: Course) -> bool:
        return False

    def stop(self) -> bool:
        return False

    def save(self, engine: Any, course: Course) -> None: ...


class Keeper:
    """Makes checkpoints of a training at an interval, and one more as it is asked to stop.

    Every rank has one; rank 0's clock decides. A checkpoint that cannot be written is told to `say`, and training goes
    on: the one before it is still there. kept: whether one was made, of a training that is worth keeping to its end.
    """

    def __init__(self, checkpoints: Checkpoints, every: Interval, asked: Callable[[], bool], say: Say) -> None:
        self.checkpoints, self.every, self.say = checkpoints, every, say
        self.stop = asked
        self.kept, self.written, self.bytes, self.seconds = False, 0, 0, 0.0
        self._at, self._step = time.monotonic(), 0

    def take_up(self, engine: Any, course: Course) -> None:
        """Put engine, course and random states to where the newest good checkpoint has them, if there is one."""
        if not self.every or (taken := self.checkpoints.latest(self.say)) is None:
            return
        engine_state.restore(engine, taken.shared["engine"], taken.own["engine"])
        course.restore(taken.own["course"])
        course.taken_up.append(f"{provenance.now()} at step {course.step}")
        randomness.restore(taken.own["random"])
        self.kept = True
        self._rest(course)

    def due(self, course: Course) -> bool:
        """Whether the step that is being made is to be followed by a checkpoint."""
        if self.every.steps:
            return course.step + 1 - self._step >= self.every.steps
        late = time.monotonic() - self._at >= self.every.seconds
        return bool(self.every) and self.checkpoints.rank == 0 and late

    def save(self, engine: Any, course: Course) -> None:
        """Make a checkpoint of what the last step left."""
        if not self.every:
            return
        started = time.monotonic()
        with course.clock.paused():
            shared, own = engine_state.read(engine)
            state = {"engine": own, "course": course.state(), "random": randomness.read()}
            try:
                self.bytes = self.checkpoints.save(course.step, {"engine": shared}, state)
                self.written, self.kept = self.written + 1, True
            except OSError as error:
                self.say(f"no checkpoint at step {course.step}: {error}; the one before it is kept")
        self.seconds += time.monotonic() - started
        self._rest(course)

    def _rest(self, course: Course) -> None:
        self._at, self._step = time.monotonic(), course.step

    def cost(self) -> dict[str, Any]:
        """How many checkpoints this process made, their size on this rank, and the time they took in all."""
        return {
            "checkpoints": self.written,
            "checkpoint_bytes": self.bytes,
            "checkpoint_seconds": round(self.seconds, 4),
        }
