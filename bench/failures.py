"""What went wrong, in words that say what to do about it."""

from __future__ import annotations

import errno

_MEMORY = ("out of memory", "outofmemory", "can't allocate memory", "cannot allocate memory", "unable to allocate")
MEMORY_ADVICE = (
    "ran out of memory: try --checkpointing, a smaller --set train.batch=… or --set model.image=…, or fewer trials at "
    "a time with --max-concurrent 1"
)


def advised(error: str) -> str:
    """The text of an error, its last line with an advice where there is one: that line is what people are shown."""
    text = error.strip()
    if not any(words in text.lower() for words in _MEMORY) and "MemoryError" not in text:
        return text
    return f"{text} ({MEMORY_ADVICE})"


def disk_is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def full_disk_message(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}the disk is full; make room, and the same command goes on from here: nothing is half written"
