"""SQLite with the bodies as blobs, through Python's own module."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import ARROW_SCHEMA, NAMES, Dataset
from benchmarks.measure import sync_file
from benchmarks.reading.protocol import Bodied

FILE = "records.sqlite"
_MAPPED = 1 << 40
_SCANNED = 256
_TABLES = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY, label TEXT, width INTEGER, score REAL, taken INTEGER, valid INTEGER
);
CREATE INDEX records_by_width ON records (width);
CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB);
"""
_ONE = "SELECT body FROM bodies WHERE id = ?"
# CROSS JOIN keeps the order of the list; duplicates stay.
_SOME = "SELECT body FROM json_each(?) AS wanted CROSS JOIN bodies ON bodies.id = wanted.value"
_BELOW = "SELECT body FROM bodies WHERE id IN (SELECT id FROM records WHERE width < ?) ORDER BY id"
_METADATA = "SELECT label, width, score, taken, valid FROM records ORDER BY id"
_ALL = "SELECT body FROM bodies ORDER BY id"


class SqliteBlobs(Bodied):
    """Bodies in a table of their own, so that a scan of the columns does not go through them.

    The file is mapped, which halves the time for large bodies, and one transaction stays open: a
    lock for every statement would cost four times the reading of 1 KiB.
    """

    name = "SQLite with blobs"
    how = (
        "bodies in a table of their own, width indexed, `mmap_size` set, one open transaction; "
        "batches joined with `json_each`"
    )

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        connection = sqlite3.connect(folder / FILE, isolation_level=None)
        connection.executescript(_TABLES)
        connection.execute("BEGIN")
        bodies = ((number, row[0]) for number, row in enumerate(data.rows))
        connection.executemany("INSERT INTO bodies VALUES (?, ?)", bodies)
        rows = ((number, *row[1:]) for number, row in enumerate(data.rows))
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
        connection.close()
        sync_file(folder)

    def __init__(self, folder: Path) -> None:
        path = f"file:{folder / FILE}?mode=ro"
        self.connection = sqlite3.connect(path, uri=True, isolation_level=None)
        self.connection.execute(f"PRAGMA mmap_size = {_MAPPED}")
        self.connection.execute("BEGIN")
        self.execute = self.connection.cursor().execute

    def get(self, record: int) -> bytes:
        body: bytes = self.execute(_ONE, (record,)).fetchone()[0]
        return body

    def batch(self, records: NDArray[np.int64]) -> list[bytes]:
        wanted = json.dumps(records.tolist())
        return [body for (body,) in self.execute(_SOME, (wanted,))]

    def matching(self, below: int) -> list[bytes]:
        return [body for (body,) in self.execute(_BELOW, (below,))]

    def metadata(self) -> pa.Table:
        columns = dict(zip(NAMES[1:], zip(*self.execute(_METADATA), strict=True), strict=True))
        columns["valid"] = tuple(map(bool, columns["valid"]))
        return pa.table(columns, pa.schema([ARROW_SCHEMA.field(name) for name in NAMES[1:]]))

    def scan(self) -> Iterator[list[bytes]]:
        cursor = self.connection.execute(_ALL)
        while rows := cursor.fetchmany(_SCANNED):
            yield [body for (body,) in rows]

    def close(self) -> None:
        self.connection.close()


SYSTEMS = (SqliteBlobs,)
