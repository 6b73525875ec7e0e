"""Learning curves as TensorBoard reads them: `RUN/tensorboard/<key>/events.out.tfevents.…`, by step, as they come.

`tensorboard --logdir RUN/tensorboard` shows them. A trial that is taken up again adds a file that takes the place of
what the first wrote from that step on; the report is made from the records alone.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.live import Live

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

FOLDER = "tensorboard"


class EventFile:
    """A listener (see `bench.live`): writes an entry of the learning curve as it comes. Nothing is made before that."""

    def __init__(self, run: Path, key: str) -> None:
        self.folder = run.resolve() / FOLDER / key
        self._file: EventsWriter | None = None

    def __call__(self, state: Live) -> None:
        if state.doing != "training" or state.loss is None:
            return
        values = {
            "training/loss": state.loss,
            "training/Dice of crops": state.dice,
            "validation/Dice of crops": state.validation_dice if state.validated == state.step else None,
            "training/samples a second": state.samples_per_second,
            "training/epoch": state.epoch,
        }
        self._write(state.step, values)

    def ended(self, step: int, dice: float | None) -> None:
        """The trial is scored: dice is the mean of the held-out cases."""
        self._write(step, {"held-out/Dice": dice})
        if self._file:
            self._file.close()

    def _write(self, step: int, values: dict[str, float | None]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        if self._file is None:
            self._file = self._open(step)
        for name, value in values.items():
            if value is not None:
                self._file.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        self._file.flush()

    def _open(self, step: int) -> Any:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.folder.mkdir(parents=True, exist_ok=True)
        file = EventsWriter(
            str(self.folder / "events"), f".{os.getpid()}.{time.time_ns()}"
        )  # two may begin in one second
        file.write_event(Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START)))
        return file
