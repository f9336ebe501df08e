"""Lance: a columnar format that is made for random access."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import ARROW_SCHEMA, NAMES, Dataset
from benchmarks.reading.protocol import Bodied, Bodies, Body
from benchmarks.reading.sidecar import sync_tree

_ENCODING = {
    "lance-encoding:compression": "none",
    "lance-encoding:structural-encoding": "miniblock",
}
_BODY = pa.field("body", pa.binary(), metadata=_ENCODING)
_PIECE_BYTES = 2 << 20


class Lance(Bodied):
    """A plain binary column, not compressed and in small blocks: scans take a quarter of the time.

    Blob columns fetch large bodies faster in a batch, single ones more slowly. A scalar index on
    the width does not pay in a fresh process, which has to read it first.
    """

    name = "Lance"
    how = "dataset.take, fragment.take for one; to_table(filter=...); to_batches; no compression"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        table = pa.Table.from_arrays(data.table.columns, schema=ARROW_SCHEMA.set(0, _BODY))
        lance.write_dataset(table, folder / "data", max_rows_per_file=len(data))
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.dataset = lance.dataset(folder / "data")
        (self.fragment,) = self.dataset.get_fragments()

    def get(self, record: int) -> Body:
        body: bytes = self.fragment.take([record], columns=["body"])["body"][0].as_py()
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        found = self.dataset.take(pa.array(records), columns=["body"])
        return found["body"].combine_chunks()

    def matching(self, below: int) -> Bodies:
        found = self.dataset.to_table(columns=["body"], filter=f"width < {below}")
        return found["body"].combine_chunks()

    def metadata(self) -> pa.Table:
        return self.dataset.to_table(columns=list(NAMES[1:]))

    def scan(self) -> Iterator[Bodies]:
        piece = max(1, _PIECE_BYTES // max(1, len(self.get(0))))
        for batch in self.dataset.to_batches(columns=["body"], batch_size=piece):
            yield batch.column(0)

    def close(self) -> None:
        del self.fragment, self.dataset


SYSTEMS = (Lance,)
