"""Append to one store from four processes at once, then see that nothing is lost or mixed up.

Run it with ``python examples/parallel_writers.py [STORE]``. The store (build/parallel by default)
is made anew on every run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Barrier

import afresh
import numpy as np
from numpy.typing import NDArray

import sqlstore

WRITERS = 4
RECORDS = 1_000  # each writer's
COMMIT = 100  # records: ten commits a writer
BY_WRITER = (
    "SELECT writer, count(*) AS records, count(DISTINCT number) AS numbers, min(id) AS first_id, "
    "max(id) AS last_id FROM records GROUP BY writer ORDER BY writer"
)
CHUNKS = (
    "SELECT file, count(*) AS records, sum(length) AS bytes FROM record_locations "
    "GROUP BY file ORDER BY file"
)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Four writers and one store.")
    parser.add_argument("store", metavar="STORE", nargs="?", default="build/parallel", type=Path)
    path: Path = parser.parse_args(argv).store
    afresh.clear(path)
    sqlstore.create(
        path,
        fields={"noise": "array"},
        metadata={"writer": sqlstore.Column("int8", nullable=False), "number": "int32"},
    ).close()
    afresh.mark(path)

    began = time.perf_counter()
    committed = run(path)
    taken = time.perf_counter() - began
    print(f"{WRITERS} processes appended {RECORDS:,} records each, {COMMIT} in a commit,")
    print(f"in {taken:.2f} s, the start of the processes included\n")

    with sqlstore.open(path) as store:
        print(store.sql(BY_WRITER).to_pandas().to_string(index=False))
        print("\nWhile it is at work a writer has a chunk file to itself, so nobody waits for")
        print("another's bytes; the chunk of one that has ended may be continued by the next.\n")
        print(store.sql(CHUNKS).to_pandas().to_string(index=False))
        compare(store, committed)
        report = store.verify()
    print(f"verify: {report}")
    return 0 if report else 1


def run(path: Path) -> list[NDArray[np.int64]]:
    """Let all writers begin at the same moment and return the ids that each has committed."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        start = manager.Barrier(WRITERS)
        with ProcessPoolExecutor(WRITERS, mp_context=context) as pool:
            jobs = [pool.submit(write, path, writer, start) for writer in range(WRITERS)]
            return [job.result() for job in jobs]


def write(path: Path, writer: int, start: Barrier) -> NDArray[np.int64]:
    """Append this writer's records; runs in a process of its own, with a store of its own."""
    with sqlstore.open(path, mode="a") as store, store.writer(commit_records=COMMIT) as appender:
        start.wait(timeout=60)
        for number, noise in enumerate(noises(writer)):
            appender.append({"noise": noise, "writer": writer, "number": number})
        appender.commit()
        print(f"writer {writer}, process {os.getpid()}: {len(appender.ids):,} records committed")
        return appender.ids


def noises(writer: int) -> Iterator[NDArray[np.float64]]:
    """Return what a writer stores; every call gives the same."""
    random = np.random.default_rng(writer)
    return (random.random(128) for _ in range(RECORDS))


def compare(store: sqlstore.Store, committed: Sequence[NDArray[np.int64]]) -> None:
    """Read every record by the ids that its writer was given, and compare it with the source."""
    if len(np.unique(np.concatenate(committed))) != len(store) or len(store) != WRITERS * RECORDS:
        raise RuntimeError(f"{len(store)} records, and ids that do not fit that")
    for writer, ids in enumerate(committed):
        for number, noise in enumerate(noises(writer)):
            record = store.get(int(ids[number]))
            found = record["writer"], record["number"]
            if found != (writer, number) or not np.array_equal(record["noise"], noise):
                raise RuntimeError(f"record {ids[number]} is not what writer {writer} stored")
    print(f"\nall {len(store):,} records are under the ids their writers were given, as written")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
