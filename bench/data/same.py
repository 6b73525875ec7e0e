"""Images that a task has more than once, whatever their names, labels and headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.data.cases import Case
from bench.data.measure import CaseFacts


class Channel(NamedTuple):
    """One channel of a case, and what messages call it: its file, and its number where the file has several."""

    case: str
    name: str


def repeated(cases: Sequence[Case], facts: Sequence[CaseFacts]) -> list[list[Channel]]:
    """Channels whose voxels are equal, whatever their labels and headers; cases that share several are named once."""
    groups: dict[str, list[Channel]] = {}
    for case, fact in zip(cases, facts, strict=True):
        for number, digests in enumerate(fact.voxel_digests):
            for digest in digests:
                groups.setdefault(digest, []).append(Channel(case.id, _name(case, number, len(fact.voxel_digests))))
    found: dict[frozenset[str], list[Channel]] = {}
    for group in groups.values():
        sharing = frozenset(channel.case for channel in group)
        if len(sharing) > 1:
            found.setdefault(sharing, group)
    return list(found.values())


def _name(case: Case, number: int, channels: int) -> str:
    if len(case.images) == channels:
        return str(case.images[number])
    return f"{case.image} (channel {number})"
