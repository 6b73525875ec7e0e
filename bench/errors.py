"""Which errors are the user's to mend, shown as one line and exit code 2. Others are ours, with a traceback."""

from __future__ import annotations

#: The exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130
#: The exit code after SIGTERM, likewise.
TERMINATED = 143


class PredictionError(ValueError):
    """A trial or an image that nothing can be predicted with. The message names it, and says what would work."""


def is_users(error: ValueError) -> bool:
    """True for the errors by which the rooms refuse bad input."""
    from backbones.errors import PlugInError, UnknownBackbone
    from backbones.weights import WeightsError
    from bench.data.folder import DataError
    from bench.study import StudyError
    from reports.build import ReportError
    from results.store import RecordError

    users = (StudyError, DataError, UnknownBackbone, PlugInError, WeightsError, RecordError, ReportError)
    return isinstance(error, (*users, PredictionError))
