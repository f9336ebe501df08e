"""What workers do: read at random, compare, and see whether SQLite has been opened."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

import sqlstore
from sqlstore import Field, KiB, Store, View

COUNT: Final = 3000
"""Records; more than travel in a pickle itself."""
COMMIT: Final = 700


def data(record: int) -> bytes:
    """Return a value that no other record has, of 1 to 400 bytes."""
    return hashlib.shake_128(b"%d" % record).digest(1 + record % 400)


def text(record: int) -> str | None:
    return None if record % 10 == 3 else f"record {record}, " * (record % 7)


def label(record: int) -> str:
    return f"label {record % 5}"


def record_of(number: int) -> dict[str, Any]:
    return {"data": data(number), "text": text(number), "n": number, "label": label(number)}


def make(root: Path, count: int = COUNT) -> Path:
    """Make a store of several chunks and commits."""
    fields = {"data": Field("bytes", None), "text": Field("utf8", "lz4")}
    metadata = {"n": "int64", "label": "string"}
    with (
        sqlstore.create(root, fields=fields, metadata=metadata, chunk_size=256 * KiB) as store,
        store.writer(commit_records=COMMIT) as writer,
    ):
        writer.extend(record_of(number) for number in range(count))
    return root


def read_randomly(view: View, reads: int, seed: int) -> int:
    """Read values at random in every way, compare them, and return how many there were."""
    ids = view.ids
    random = np.random.default_rng(seed)
    done = 0
    while done < reads:
        positions = random.integers(-len(ids), len(ids), 8)
        chosen = ids[positions].tolist()
        for position, record in zip(positions.tolist(), chosen, strict=True):
            assert view.raw(position, "data") == data(record)
        for copy in (True, False):
            blobs = view.blobs("data", positions, copy=copy).to_pylist()
            assert blobs == [data(record) for record in chosen]
        fetched = view.__getitems__(positions.tolist())
        assert fetched == [record_of(record) for record in chosen]
        done += 4 * len(chosen)
    return done


def descriptors(root: Path, pattern: str = "index.sqlite") -> int:
    """Return how many descriptors of files of a store this process has."""
    stats = [path.stat() for path in root.glob(pattern)]
    assert stats
    wanted = {(status.st_dev, status.st_ino) for status in stats}
    count = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - these links come and go
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # the descriptor that lists the folder
        count += (status.st_dev, status.st_ino) in wanted
    return count


def count_connections() -> list[str]:
    """Return the databases that are opened from now on, as they are."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "sqlite3.connect":
            seen.append(str(arguments[0]))

    sys.addaudithook(hook)
    return seen


@dataclass(frozen=True)
class Task:
    """What a worker is to do.

    Attributes
    ----------
    store
        Opened before the worker was started.
    views
        Pickled before the worker was started.
    reads
        How many values to read through these, and as many through a store of its own.
    """

    store: Store
    views: bytes
    reads: int
    seed: int


def read_all(views: list[View], reads: int, seed: int) -> int:
    """Read so many values, about as many from each view."""
    return sum(read_randomly(view, -(-reads // len(views)), seed) for view in views)


def work(connection: Connection, task: Task) -> None:
    """Do a task and send how many values were read."""
    opened = count_connections()
    root = task.store.path
    large = np.random.default_rng(task.seed).permutation(COUNT)[:2000]
    assert descriptors(root) == 0

    here = task.store, task.store[100:2900], task.store.take(large)
    total = read_all([*here, *pickle.loads(task.views)], task.reads, task.seed)
    assert opened == []
    assert descriptors(root) == 0

    assert task.store.where("n < :n", n=50).ids.tolist() == list(range(50))
    assert descriptors(root) > 0  # one of its own
    task.store.close()
    assert descriptors(root) == 0

    with sqlstore.open(root, io=task.store._source.how.io) as own:
        views = [own, own[::-1], own.take(large), own.where("label = 'label 3'")]
        total += read_all(views, task.reads, task.seed)
    assert descriptors(root) == 0
    connection.send(total)
