"""Statistics of many samples at once: those of one size are one array.

Shapes: K samples, N values in each of the samples of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def by_size(sizes: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """Sizes -> the places at which they stand."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, size in enumerate(sizes):
        groups.setdefault(size, []).append(place)
    return groups


def stacked(samples: Sequence[Floats], least: int = 1) -> Iterator[tuple[list[int], Floats]]:
    """The places of the samples of each size, and their values (K, N). Samples with fewer than `least` are left out."""
    for (n,), places in by_size([(len(sample),) for sample in samples]).items():
        if n >= least:
            yield places, np.stack([samples[place] for place in places])


def of_each(samples: Sequence[Floats], statistic: Callable[[Floats], Floats], least: int = 1) -> Floats:
    """(K,): a statistic of each sample, from (K, N) to (K,); missing for samples with fewer values than `least`."""
    found = np.full(len(samples), np.nan)
    for places, values_KN in stacked(samples, least):
        found[places] = statistic(values_KN)
    return found


def spread(samples: Sequence[Floats]) -> Floats:
    """(K,): standard deviations (n − 1); exactly 0 where all values are equal, missing for fewer than two."""
    return of_each(samples, lambda values_KN: values_KN.std(1, ddof=1) * (np.ptp(values_KN, axis=1) > 0), least=2)
