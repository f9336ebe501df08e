"""An Arrow IPC file, mapped: the fastest there is to read, and it can never be changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.data import NAMES, Dataset
from benchmarks.measure import sync_file
from benchmarks.reading.protocol import Viewed

FILE = "records.arrow"
_SCANNED = 1024


class ArrowFile(Viewed):
    """Bodies as one `large_binary` array beside the columns, in one record batch."""

    name = "Arrow IPC file"
    how = (
        "one mapped record batch; `take` and `filter`; single records and views as slices of the "
        "array's buffer, since `array[i]` copies twice"
    )

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        table = data.table.set_column(0, "body", data.table["body"].cast(pa.large_binary()))
        with (
            pa.OSFile(str(folder / FILE), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as file,
        ):
            file.write_table(table)
        sync_file(folder / FILE)
        sync_file(folder)

    def __init__(self, folder: Path) -> None:
        self.source = pa.memory_map(str(folder / FILE))
        self.records = pa.ipc.open_file(self.source).get_batch(0)
        self.bodies = self.records.column("body")
        _, bounds, data = self.bodies.buffers()
        self.bounds: NDArray[np.int64] = np.frombuffer(bounds, np.int64)
        self.ends, self.data = self.bounds.data, memoryview(data)

    def get(self, record: int) -> bytes:
        ends = self.ends
        return bytes(self.data[ends[record] : ends[record + 1]])

    def batch(self, records: NDArray[np.int64]) -> pa.Array:
        return self.bodies.take(pa.array(records))

    def views(self, records: NDArray[np.int64]) -> list[memoryview]:
        data = self.data
        starts, ends = self.bounds[records].tolist(), self.bounds[records + 1].tolist()
        return [data[start:end] for start, end in zip(starts, ends, strict=True)]

    def matching(self, below: int) -> pa.Array:
        return self.bodies.filter(pc.less(self.records.column("width"), below))

    def metadata(self) -> pa.Table:
        return pa.Table.from_batches([self.records.select(NAMES[1:])])

    def scan(self) -> Iterator[pa.Array]:
        for start in range(0, len(self.bodies), _SCANNED):
            yield self.bodies.slice(start, _SCANNED)

    def close(self) -> None:
        del self.records, self.bodies, self.bounds, self.ends, self.data
        self.source.close()


SYSTEMS = (ArrowFile,)
