"""What is measured in one process: random reads one by one and in batches, and the scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.protocol import System, bodied
from benchmarks.reading.sums import sum_of, total

BATCH = 256
_MOST_RECORDS = 20_000
_PASS_SECONDS = 0.1
_TRIED = 8


@dataclass(frozen=True)
class Reads:
    """A way to read at random, which is gone through three times in a newly opened system.

    First over records that have not been read since it was opened, where a checksum that is
    verified once is paid; again over the same records in another order; and once more with every
    byte summed.

    Attributes
    ----------
    group
        The measures' common name.
    method
        The name of the method of `System` that reads.
    step
        How many records one call reads.
    """

    group: str
    method: str
    step: int

    def figures(
        self, system: type[System], folder: Path, data: Dataset, number: int
    ) -> dict[str, float]:
        """Return microseconds per record of the three passes.

        Parameters
        ----------
        number
            The round, which decides about the order of the records.
        """
        opened = system(folder)
        try:
            return self._passes(getattr(opened, self.method), len(data), number)
        finally:
            opened.close()

    def _passes(self, read: Callable[[Any], Any], count: int, number: int) -> dict[str, float]:
        random = np.random.default_rng(number)
        order = random.permutation(count)
        # What is tried to learn how fast it is, is not among what is timed.
        tried, order = np.split(order, [min(_TRIED * self.step, count // 4)])
        calls = self._calls(tried)
        if not calls:
            return {}
        seconds = _timed(read, calls) / len(calls)
        most = min(_MOST_RECORDS, self.step * max(1, int(_PASS_SECONDS / seconds)))
        # At least four calls, however long they take; all of them whole, so that the second pass
        # meets no record that the first has left out.
        chosen = order[: max(most, 4 * self.step)]
        chosen = chosen[: len(chosen) // self.step * self.step]
        first, again, summed = (self._calls(p) for p in (chosen, *_shuffled(random, chosen)))
        scale = 1e6 / (len(first) * self.step)
        summing: Callable[[Any], int] = sum_of if self.step == 1 else total
        return {
            f"{self.group}.first": scale * _timed(read, first),
            f"{self.group}.again": scale * _timed(read, again),
            f"{self.group}.summed": scale * _timed_sums(read, summing, summed),
        }

    def _calls(self, records: NDArray[np.int64]) -> Sequence[Any]:
        """Return what each call is given; only whole batches."""
        if self.step == 1:
            numbers: list[int] = records.tolist()
            return numbers
        whole = len(records) // self.step
        return list(records[: whole * self.step].reshape(whole, self.step))


def _shuffled(
    random: np.random.Generator, records: NDArray[np.int64]
) -> Iterable[NDArray[np.int64]]:
    return (random.permutation(records) for _ in range(2))


def _timed(read: Callable[[Any], Any], calls: Sequence[Any]) -> float:
    start = time.perf_counter()
    for call in calls:
        read(call)
    return time.perf_counter() - start


def _timed_sums(
    read: Callable[[Any], Any], summing: Callable[[Any], int], calls: Sequence[Any]
) -> float:
    start = time.perf_counter()
    for call in calls:
        summing(read(call))
    return time.perf_counter() - start


def scan_figures(
    system: type[System], folder: Path, data: Dataset, expected: int
) -> dict[str, float]:
    """Return MB/s of two scans in a newly opened system, every byte summed.

    Raises
    ------
    ValueError
        The sum is another one.
    """
    figures = {}
    opened = system(folder)
    try:
        for key in ("scan.first", "scan.again"):
            start = time.perf_counter()
            found = sum(map(total, bodied(opened).scan()))
            figures[key] = data.n_bytes / 1e6 / (time.perf_counter() - start)
            if found != expected:
                raise ValueError(f"{system.name}: the scan summed up to something else")
    finally:
        opened.close()
    return figures


READS = (
    Reads("single", "get", 1),
    Reads("batch", "batch", BATCH),
    Reads("views", "views", BATCH),
)
