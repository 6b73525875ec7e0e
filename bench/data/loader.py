"""Batches of crops, cut ahead by background threads; the same ones whatever the number of threads and workers."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from bench.data.crops import CropSampler

Crop = tuple[np.ndarray, np.ndarray]


def batches(
    sampler: CropSampler, batch: int, rank: int = 0, workers: int = 1, threads: int = 1, first: int = 0
) -> Generator[Crop]:
    """Images (B, C, X, Y, Z) float32 and labels (B, X, Y, Z) uint8 of steps first, first + 1, … without an end.

    batch is the global one; worker `rank` of `workers` gets its share of it, crops s * batch + rank * share and on of
    step s. With threads (0: none) the next step's crops are cut while this one is computed: NumPy works outside the
    interpreter's lock. An error of a crop is raised where its batch is asked for. Closing the iterator ends the
    threads.
    """
    share, left = divmod(batch, workers)
    if left:
        raise ValueError(f"{workers} workers cannot share a batch of {batch}")
    starts = (step * batch + rank * share for step in itertools.count(first))
    if not threads:
        for start in starts:
            yield _stacked([sampler.sample(index) for index in range(start, start + share)])
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="crops")
    waiting: deque[list[Future[Crop]]] = deque()
    try:
        for start in starts:
            waiting.append([pool.submit(sampler.sample, index) for index in range(start, start + share)])
            if len(waiting) > 2:  # this step's batch and the next: more would only hold memory
                yield _stacked([future.result() for future in waiting.popleft()])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _stacked(crops: list[Crop]) -> Crop:
    images, labels = zip(*crops, strict=True)
    return np.stack(images), np.stack(labels)
