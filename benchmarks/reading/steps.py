"""Where the time of reading goes, seen from outside: nothing in sqlstore is changed.

    python -m benchmarks.reading.steps

A read is built up from its parts. A row of a table is one step; what it takes is the median of
everything up to it less the median of everything before it. Random records of many are read, so
that no cache of the processor holds them; in the last column a few are read again and again, and
the difference is waiting for memory.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import sqlstore
from benchmarks.data import Kind, make
from benchmarks.measure import machine, working_folder
from benchmarks.reading import registry, rungs
from benchmarks.reading.inside import BATCH
from benchmarks.reading.ladder import Loop, Records, Timings
from benchmarks.reading.protocol import System
from benchmarks.reading.rungs import FIELD, own
from benchmarks.reading.systems.bare import Bare
from benchmarks.reading.systems.ours import Sqlstore, SqlstoreAlways, SqlstorePlain
from sqlstore import KiB

SIZE = KiB
RAW, VIEWS, COPIES = "`raw`", "`blobs(copy=False)`", "`blobs()`"


def loop_single(read: Callable[..., Any]) -> Loop:
    def loop(calls: Iterable[int]) -> None:
        for record in calls:
            read(record, FIELD)

    return own(loop)


def loop_plain(read: Callable[[Any], Any]) -> Loop:
    def loop(calls: Iterable[Any]) -> None:
        for call in calls:
            read(call)

    return own(loop)


def loop_blobs(store: sqlstore.Store, *, copy: bool) -> Loop:
    blobs = store.blobs

    def loop(calls: Iterable[Any]) -> None:
        for positions in calls:
            blobs(FIELD, positions, copy=copy)

    return own(loop)


def loop_slices(system: Bare) -> Loop:
    """Slice the mapped file and do nothing else, for which all records have one size."""
    file = system.map

    def loop(calls: Iterable[int]) -> None:
        for record in calls:
            start = record * SIZE
            file[start : start + SIZE]

    return own(loop)


def loop_lmdb(system: Any) -> Loop:
    get, key = system.value, struct.Struct(">Q").pack

    def loop(calls: Iterable[int]) -> None:
        for record in calls:
            get(key(record))

    return own(loop)


class Anew:
    """Reads everything for the first time, in a store that is opened anew for each round."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: sqlstore.Store | None = None

    def open(self) -> None:
        self.close()
        self.store = sqlstore.open(self.folder / "store")

    def loop(self, calls: Iterable[int]) -> None:
        assert self.store is not None
        read = self.store.raw
        for record in calls:
            read(record, FIELD)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


def forget(store: sqlstore.Store) -> None:
    """Let a store forget what it has checked, all of it mapped already."""
    rungs.values_of(store)._checked.fill(0)


class Opened:
    """The same records in a store and with peers, and others, of text, in a compressed store."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self._systems: list[System] = []
        self._write((SqlstorePlain, Bare), count, "random")
        entries, self.notes = registry.load(["lmdb_system"])
        self.lmdb: Any = None
        for entry in entries:
            self._write((entry.system,), count, "random")
            self.lmdb = self._open(entry.system)
        self._write((Sqlstore,), count, "text")
        self.bare = self._open(Bare)
        self.store = self._open(SqlstorePlain).store
        self.forgetful = self._open(SqlstorePlain).store
        self.always = self._open(SqlstoreAlways).store
        self.packed = self._open(Sqlstore).store
        self.anew = Anew(folder / registry.folder_name(SqlstorePlain))
        # From here on everything has been checked.
        for store in (self.store, self.packed):
            store.blobs(FIELD)

    def _write(self, systems: Sequence[type[System]], count: int, kind: Kind) -> None:
        data = make(count, SIZE, kind)
        for system in systems:
            place = self.folder / registry.folder_name(system)
            place.mkdir()
            system.write(place, data)

    def _open(self, system: type[System]) -> Any:
        opened = system(self.folder / registry.folder_name(system))
        self._systems.append(opened)
        return opened

    def close(self) -> None:
        self.anew.close()
        for system in self._systems:
            system.close()


def singles(opened: Opened, records: Records, rounds: int) -> Iterator[str]:
    """Return the tables of reading one by one."""
    ladder = {rung.step: loop_single(rung.read) for rung in rungs.single(opened.store)}
    ladder[RAW] = loop_single(opened.store.raw)
    timings = Timings(records.one_by_one)
    timings.add_ladder(RAW, ladder)
    timings.add(RAW, loop_single(opened.store.raw))
    timings.add("`mmap[start:end]`, no call, all of one size", loop_slices(opened.bare))
    timings.add("the bare file: a method, bounds looked up", loop_plain(opened.bare.get))
    if opened.lmdb is not None:
        timings.add("LMDB `get`, its key packed", loop_lmdb(opened.lmdb))
    timings.add("`raw`, checked always", loop_single(opened.always.raw))
    timings.add_first(
        "`raw`, the first time: seal and CRC",
        loop_single(opened.forgetful.raw),
        partial(forget, opened.forgetful),
    )
    timings.add_first(
        "the same right after opening: also page faults", opened.anew.loop, opened.anew.open
    )
    timings.add("`raw` of text in LZ4", loop_single(opened.packed.raw))
    timings.add("`store[i]`: a dict of body and five columns", loop_plain(opened.store.__getitem__))
    timings.measure(rounds)
    yield f"**{RAW}: {SIZE:,} bytes, one by one**"
    yield timings.table(RAW, list(ladder))
    yield "**One by one, for comparison**"
    yield timings.compared(1)


def batches(opened: Opened, records: Records, rounds: int) -> Iterator[str]:
    """Return the tables of reading in batches."""
    timings = Timings(records.in_batches)
    ladders = {}
    for name, made, copy in ((VIEWS, rungs.views, False), (COPIES, rungs.copies, True)):
        ladder = {rung.step: loop_plain(rung.read) for rung in made(opened.store)}
        ladder[name] = loop_blobs(opened.store, copy=copy)
        timings.add_ladder(name, ladder)
        ladders[name] = list(ladder)
    timings.add(VIEWS, loop_blobs(opened.store, copy=False))
    timings.add("views of the bare file", loop_plain(opened.bare.views))
    if opened.lmdb is not None:
        timings.add("LMDB, `get` of a buffer for each", loop_plain(opened.lmdb.views))
    timings.add(COPIES, loop_blobs(opened.store, copy=True))
    timings.add("Arrow's `take` over the bare file", loop_plain(opened.bare.batch))
    if opened.lmdb is not None:
        timings.add("LMDB, `get` for each", loop_plain(opened.lmdb.batch))
    timings.add("`blobs()`, checked always", loop_blobs(opened.always, copy=True))
    timings.add_first(
        "`blobs()`, the first time: seals and CRC",
        loop_blobs(opened.forgetful, copy=True),
        partial(forget, opened.forgetful),
    )
    timings.add("`blobs()` of text in LZ4", loop_blobs(opened.packed, copy=True))
    timings.add("`fetch`: dicts of body and five columns", loop_plain(opened.store.fetch))
    timings.measure(rounds)
    for name, steps in ladders.items():
        yield f"**{name}: a batch of {records.batch}**"
        yield timings.table(name, steps)
    yield f"**A batch of {records.batch}, for comparison**"
    yield timings.compared(records.batch)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading.steps", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, help="where to write (default: here)")
    parser.add_argument("--rounds", type=int, default=21, help="rounds that count (default: 21)")
    parser.add_argument("--records", type=int, default=100_000, help="how many (default: 100,000)")
    parsed = parser.parse_args(given)
    if parsed.rounds < 1 or parsed.records < BATCH:
        parser.error(f"at least one round, and {BATCH} records")
    return parsed


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    options = arguments(given)
    records = Records(options.records, BATCH)
    with (
        working_folder(options.folder) as folder,
        closing(Opened(folder, records.count)) as opened,
    ):
        facts = ", ".join(f"{name} {value}" for name, value in machine(folder).items())
        print(
            f"{facts}; {'; '.join(opened.notes)}; {records.count:,} records; microseconds; "
            f"medians of {options.rounds} rounds"
        )
        for measure in (singles, batches):
            for piece in measure(opened, records, options.rounds):
                print(f"\n{piece}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
