"""Times the rungs of ladders in turn, and shows what each step adds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from benchmarks.measure import Run, Timing, formatted, interleaved
from benchmarks.reading.rungs import own

Loop: TypeAlias = Callable[[Iterable[Any]], None]
Calls: TypeAlias = Callable[[str, np.random.Generator], list[Any]]
"""Gives what is read: for a kind of order, with a source of random numbers."""

RANDOM: Final = "random"
SAME: Final = "the same"
_NOTHING: Final = "the loop alone"


@dataclass(frozen=True)
class Records:
    """Which records are read: all in a random order, or a few of them equally often."""

    count: int
    batch: int

    def one_by_one(self, kind: str, random: np.random.Generator) -> list[int]:
        """Return as many record numbers as there are records."""
        order = random.permutation(self.count)
        if kind == SAME:
            order = random.permutation(np.resize(order[: self.batch], self.count))
        numbers: list[int] = order.tolist()
        return numbers

    def in_batches(self, kind: str, random: np.random.Generator) -> list[Any]:
        """Return record numbers in arrays of the size of a batch."""
        whole = self.count // self.batch * self.batch
        batches = list(random.permutation(self.count)[:whole].reshape(-1, self.batch))
        return batches[:1] * len(batches) if kind == SAME else batches


class Timings:
    """Collects what is to be timed, and times all of it in turn.

    Parameters
    ----------
    calls
        Gives what is read, anew for every run.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._random = np.random.default_rng(0)
        self._count = len(calls(RANDOM, self._random))
        self._runs: dict[str, Run] = {}
        self._found: dict[str, Timing] = {}
        self._others: list[str] = []

    def add(self, name: str, loop: Loop) -> None:
        """Time a loop over random records, and over the same few."""
        self._others.append(name)
        for kind in (RANDOM, SAME):
            self._runs[_key("", name, kind)] = self._run(loop, kind, lambda: None)

    def add_first(self, name: str, loop: Loop, before: Callable[[], object]) -> None:
        """Time a loop over records that are read once, after something that is not timed."""
        self._others.append(name)
        self._runs[_key("", name, RANDOM)] = self._run(loop, RANDOM, before)

    def add_ladder(self, name: str, loops: Mapping[str, Loop]) -> None:
        """Time the rungs of a ladder, over random records and over the same few."""
        for step, loop in {_NOTHING: own(_nothing), **loops}.items():
            for kind in (RANDOM, SAME):
                self._runs[_key(name, step, kind)] = self._run(loop, kind, lambda: None)

    def _run(self, loop: Loop, kind: str, before: Callable[[], object]) -> Run:
        def run(_warm_up: bool) -> float:
            calls = self._calls(kind, self._random)
            before()
            start = time.perf_counter()
            loop(calls)
            return time.perf_counter() - start

        return run

    def measure(self, rounds: int) -> None:
        """Time everything as often as this."""
        self._found = interleaved(self._runs, rounds)

    def table(self, name: str, steps: Sequence[str]) -> str:
        """Return a ladder as Markdown, the loop taken off; the last step is the public call."""
        start = before = self._both(name, _NOTHING)
        lines = []
        for step in steps:
            now = self._both(name, step)
            cells = [now[0] - before[0], now[0] - start[0], now[1] - before[1]]
            title = "the rest" if step == steps[-1] else step
            # Adding nothing makes 0.00 of -0.00.
            lines.append([title, *(f"{round(cell, 2) + 0:.2f}" for cell in cells)])
            before = now
        lines.append([steps[-1], f"{before[0] - start[0]:.2f}", "", f"{before[1] - start[1]:.2f}"])
        return formatted(["step", "us", "so far", "the same few: us"], lines)

    def compared(self, per_call: int) -> str:
        """Return everything that is no ladder as Markdown, the loop not taken off.

        Parameters
        ----------
        per_call
            How many records a call reads.
        """
        lines = []
        for name in self._others:
            found = self._found[_key("", name, RANDOM)]
            scale = 1e6 / self._count
            few = _key("", name, SAME)
            cells = [
                f"{scale * found.median:.2f}",
                f"{scale * found.fastest:.2f} - {scale * found.slowest:.2f}",
                f"{self._median(few):.2f}" if few in self._found else "",
            ]
            if per_call > 1:
                cells.append(f"{scale * found.median / per_call:.2f}")
            lines.append([name, *cells])
        headings = ["", "us", "fastest - slowest", "the same few: us"]
        return formatted([*headings, "us per record"] if per_call > 1 else headings, lines)

    def _both(self, name: str, step: str) -> list[float]:
        return [self._median(_key(name, step, kind)) for kind in (RANDOM, SAME)]

    def _median(self, key: str) -> float:
        return 1e6 * self._found[key].median / self._count


def _key(name: str, step: str, kind: str) -> str:
    return f"{name}: {step}: {kind}"


def _nothing(calls: Iterable[Any]) -> None:
    for _call in calls:
        pass
