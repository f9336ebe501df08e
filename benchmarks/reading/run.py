"""One data set, from writing it with every system to the last figure."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Dataset
from benchmarks.measure import warm_memory
from benchmarks.reading import fresh
from benchmarks.reading.answers import check
from benchmarks.reading.inside import READS, Reads, scan_figures
from benchmarks.reading.memory import disk_bytes, warm_cache
from benchmarks.reading.protocol import System, takes_part, writer_of
from benchmarks.reading.registry import Entry, folder_name
from benchmarks.reading.results import Group, Row
from benchmarks.reading.rounds import Run, interleave
from benchmarks.reading.sums import total

_FRESH = 3
"""How many times as many rounds what runs in fresh processes has."""


@dataclass(frozen=True)
class Pace:
    """How often everything is done.

    Attributes
    ----------
    rounds
        That count, of every measure but writing, which has half as many, and what is measured in
        fresh processes, which has three times as many: those take half a second each, and differ
        more from one to the next.
    patience
        Seconds after which a system is not run again for a measure.
    """

    rounds: int
    patience: float


def measure(entries: Sequence[Entry], data: Dataset, place: Path, pace: Pace) -> Group:
    """Return all figures of all systems for one data set.

    Parameters
    ----------
    place
        An empty folder; each system writes to one of its own in it.
    """
    session = _Session(entries, data, place, pace)
    # What is there already is left out of every collection: torch alone makes one take 0.3 s.
    gc.collect()
    gc.freeze()
    try:
        return session.figures()
    finally:
        gc.unfreeze()


class _Session:
    def __init__(self, entries: Sequence[Entry], data: Dataset, place: Path, pace: Pace) -> None:
        self.entries = entries
        self.data = data
        self.place = place
        self.pace = pace
        self.rows = {
            entry.name: Row(entry.name, entry.system.checks, entry.system.how, entry.module)
            for entry in entries
        }
        self.failures: list[str] = []
        # Made before anything is timed.
        assert len(data.table) == len(data.records)
        self.sum = total([row[0] for row in data.rows])

    def figures(self) -> Group:
        self._write_all()
        for entry in self.entries:
            check(entry.system, self.place / folder_name(entry.system), self.data)
        for entry in self._taking_part("write").values():
            # Not before it has been read: what a system keeps beside its data is made then.
            n_bytes = disk_bytes(self.place / folder_name(entry.system))
            self.rows[entry.name].add({"disk": n_bytes / 1e6})
        warm_cache(self.place)
        for reads in READS:
            chosen = self._taking_part(reads.group)
            runs = {name: self._reading(reads, entry) for name, entry in chosen.items()}
            self._interleave(f"{reads.method} at random", runs)
        scanning = {n: self._scanning(e) for n, e in self._taking_part("scan").items()}
        self._interleave("scan", scanning)
        warm_cache(self.place)  # again, since all of them may be more than the memory holds
        filtering, others = self._taking_part("filter"), self._taking_part("open")
        kinds = dict.fromkeys(others, "open") | dict.fromkeys(filtering, "filter")
        opened = others | filtering
        runs = {name: self._fresh(opened[name], kind) for name, kind in kinds.items()}
        self._interleave("filter", runs, _FRESH)
        tables = self._taking_part("metadata")
        runs = {name: self._fresh(entry, "metadata") for name, entry in tables.items()}
        self._interleave("metadata", runs, _FRESH)
        return Group(len(self.data), self.data.size, list(self.rows.values()), self.failures)

    def _taking_part(self, group: str) -> dict[str, Entry]:
        return {e.name: e for e in self.entries if takes_part(e.system, group)}

    def _interleave(self, what: str, runs: Mapping[str, Run], times: int = 1) -> None:
        interleave(what, self.rows, runs, times * self.pace.rounds, self.pace.patience)

    def _write_all(self) -> None:
        timed = self._taking_part("write")
        writers = {writer_of(entry.system) for entry in self.entries}
        for system in writers - {entry.system for entry in timed.values()}:
            self._write(system)
        runs = {name: self._writing(entry) for name, entry in timed.items()}
        rounds = max(1, self.pace.rounds // 2)
        interleave("write", self.rows, runs, rounds, self.pace.patience)

    def _writing(self, entry: Entry) -> Run:
        return lambda _: {"write": self.data.n_bytes / 1e6 / self._write(entry.system)}

    def _write(self, system: type[System]) -> float:
        """Write with one system, where it may have written before, and return the seconds."""
        folder = self.place / folder_name(system)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        warm_memory(self.place, self.data.n_bytes)
        os.sync()  # so that nobody waits for what others have written
        start = time.perf_counter()
        system.write(folder, self.data)
        return time.perf_counter() - start

    def _reading(self, reads: Reads, entry: Entry) -> Run:
        folder = self.place / folder_name(entry.system)
        return lambda number: reads.figures(entry.system, folder, self.data, number)

    def _scanning(self, entry: Entry) -> Run:
        folder = self.place / folder_name(entry.system)
        return lambda _: scan_figures(entry.system, folder, self.data, self.sum)

    def _fresh(self, entry: Entry, kind: str) -> Run:
        """Return what runs a fresh process, which always opens, whether or not that is wanted."""
        unwanted = () if takes_part(entry.system, "open") else ("open.ms", "open.mb")

        def run(_: int) -> dict[str, float]:
            try:
                found = fresh.figures(entry, self.place, kind)
            except fresh.FreshProcessError as error:
                # The last line says what it was; twenty minutes are too much to lose for it.
                self.failures.append(f"{entry.name}, {kind}: {str(error).splitlines()[-1]}")
                return {}
            return {key: value for key, value in found.items() if key not in unwanted}

        return run
