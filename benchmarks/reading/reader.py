"""A process that reads a store, and tells how long opening took and what memory it has for itself.

    python -m benchmarks.reading.reader KIND STORE

prints JSON. ``KIND`` is ``opened`` for a process that opens the store itself, ``pickled`` for one
that is sent it by another, ``forked`` for the child of one that has opened it, and ``hold`` for one
that goes through everything, says so, and stays until its input is closed.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import sqlstore
from benchmarks.reading.memory import private_bytes
from benchmarks.reading.sums import sum_of, table_sum, total

_RECORDS, _BATCHES, _BATCH = 10_000, 40, 256
_HELD_AT_ONCE = 1 << 17
_PAGE = 4096


def opened(path: str) -> dict[str, float]:
    """Open a store, then read some of it."""
    return _measured(lambda: sqlstore.open(path))


def pickled(path: str) -> dict[str, float]:
    """Take a store as a worker process is given it: made again from a pickle."""
    sent = base64.b64decode(path)
    return _measured(lambda: pickle.loads(sent))


def forked(path: str) -> dict[str, float]:
    """Read in the child of a process that has opened the store and read a record."""
    store = sqlstore.open(path)
    store.raw(0, "body")
    gc.freeze()
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(sending, "w") as file:
            json.dump(_measured(lambda: store), file)
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as file:
        told = file.read()
    os.waitpid(child, 0)
    found: dict[str, float] = json.loads(told)
    return found


def _measured(make: Callable[[], sqlstore.Store]) -> dict[str, float]:
    gc.collect()
    before = _private_mb()
    start = time.perf_counter()
    store = make()
    ready = time.perf_counter()
    sum_of(store.raw(len(store) - 1, "body") or b"")
    read = time.perf_counter()
    figures = {"open.ms": 1e3 * (ready - start), "first.ms": 1e3 * (read - ready)}
    figures["open.mb"] = _private_mb() - before
    _read_some(store)
    gc.collect()
    figures["read.mb"] = _private_mb() - before
    figures["all.mb"] = _private_mb()
    return figures


def _read_some(store: sqlstore.Store) -> None:
    """Read random records, one by one and in batches, as a training loop would."""
    random = np.random.default_rng(os.getpid())
    for record in random.integers(0, len(store), _RECORDS).tolist():
        sum_of(store.raw(record, "body") or b"")
    for _ in range(_BATCHES):
        total(store.blobs("body", random.integers(0, len(store), _BATCH)))


def _private_mb() -> float:
    n_bytes = private_bytes()
    return float("nan") if n_bytes is None else n_bytes / 1e6


def hold(path: str) -> None:
    """Go through everything, so that no other process is the only one with a page mapped.

    What lies between the values as well: the system maps the neighbours of what is touched.
    """
    files = (file for file in Path(path).glob("c*/**/*") if file.is_file() and file.stat().st_size)
    mapped = [np.memmap(file, np.uint8, "r") for file in files]
    for one in mapped:
        one[::_PAGE].sum()
    with sqlstore.open(path, verify="never") as store:
        table_sum(store.to_arrow())
        kept = [v.blobs("body", copy=False) for v in store.batches(_HELD_AT_ONCE)]
        for bodies in kept:
            total(bodies)
        print("ready", flush=True)
        sys.stdin.read()


def main(given: list[str]) -> None:
    """Run one reader."""
    kind, path = given
    if kind == "hold":
        hold(path)
        return
    readers = {"opened": opened, "pickled": pickled, "forked": forked}
    print(json.dumps(readers[kind](path)))


if __name__ == "__main__":
    main(sys.argv[1:])
