"""LMDB: a key-value store in one mapped file."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import lmdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Viewed
from benchmarks.reading.sidecar import read_sidecar, records_below, write_sidecar

_MAP_SIZE = 16 << 30  # what it may grow to
_SCANNED = 1024
_key = struct.Struct(">Q").pack


class Lmdb(Viewed):
    """The record number as a big-endian key, one read transaction that stays open.

    `get` for each of a batch is faster than `getmulti`, which makes a pair for every value. Views
    are what `buffers=True` gives: into the map, as long as the transaction is open.
    """

    name = "LMDB + Parquet"
    how = (
        "one open read transaction, no lock file, key packed in the call; `get` for each of a "
        "batch (faster than `getmulti`), `buffers=True` for views"
    )

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        environment = lmdb.open(str(folder / "lmdb"), map_size=_MAP_SIZE)
        pairs = ((_key(number), row[0]) for number, row in enumerate(data.rows))
        with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(pairs, append=True)
        environment.close()
        write_sidecar(folder, data)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = lmdb.open(str(folder / "lmdb"), readonly=True, lock=False)
        self.copying = self.environment.begin()
        self.viewing = self.environment.begin(buffers=True)
        # Every record is there, so neither gives None.
        self.value = cast("Callable[[bytes], bytes]", self.copying.get)
        self.view = cast("Callable[[bytes], memoryview]", self.viewing.get)

    def get(self, record: int) -> bytes:
        return self.value(_key(record))

    def batch(self, records: NDArray[np.int64]) -> list[bytes]:
        get, key = self.value, _key
        return [get(key(record)) for record in records.tolist()]

    def views(self, records: NDArray[np.int64]) -> list[memoryview]:
        get, key = self.view, _key
        return [get(key(record)) for record in records.tolist()]

    def matching(self, below: int) -> list[bytes]:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[list[memoryview]]:
        with self.viewing.cursor() as cursor:
            values = cursor.iternext(keys=False, values=True)
            while some := list(itertools.islice(values, _SCANNED)):
                yield some

    def close(self) -> None:
        del self.value, self.view
        self.viewing.abort()
        self.copying.abort()
        self.environment.close()


SYSTEMS = (Lmdb,)
