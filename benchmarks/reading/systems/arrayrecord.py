"""ArrayRecord: a Riegeli file with an index of its chunks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodied, Bodies, Body
from benchmarks.reading.sidecar import read_sidecar, records_below, sync_tree, write_sidecar

_WRITE = "group_size:1,uncompressed"
_READ = "readahead_buffer_size:0,max_parallelism:0"
_PIECE_BYTES = 2 << 20


class ArrayRecord(Bodied):
    """The options that its reader names for random access.

    One record is read by `seek` and `read`: `read` of a list of one goes through threads, which
    costs up to sixty times as much.
    """

    name = "ArrayRecord"
    checks = "hash always"
    how = f"{_WRITE}; {_READ}; seek and read, read(list), read(start, stop); Parquet for metadata"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        writer = ArrayRecordWriter(str(folder / "bodies"), _WRITE)
        for body, *_ in data.rows:
            writer.write(body)
        writer.close()
        write_sidecar(folder, data)
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = ArrayRecordReader(str(folder / "bodies"), _READ)

    def get(self, record: int) -> Body:
        self.reader.seek(record)
        body: bytes = self.reader.read()
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        bodies: list[bytes] = self.reader.read(records.tolist())
        return bodies

    def matching(self, below: int) -> Bodies:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[Bodies]:
        count = self.reader.num_records()
        piece = max(1, _PIECE_BYTES // max(1, len(self.get(0))))
        for start in range(0, count, piece):
            yield self.reader.read(start, min(start + piece, count))

    def close(self) -> None:
        self.reader.close()


SYSTEMS = (ArrayRecord,)
