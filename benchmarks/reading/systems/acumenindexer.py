"""acumenindexer: chunk files, and an index in CSV that holds the metadata too."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from acumenindexer import load_index, read_from_index
from acumenindexer.main import Chunk, parallel_split_into_chunks
from numpy.typing import NDArray

from benchmarks.data import ARROW_SCHEMA, NAMES, Dataset
from benchmarks.reading.protocol import Bodied, Bodies, Body
from benchmarks.reading.sidecar import sync_tree

_CHUNK_BYTES = 1 << 30
_PLACE = ["ai:chunk_name", "ai:offset_bytes", "ai:size_bytes", "ai:shape"]
_PIECE = 64


class Acumenindexer(Bodied):
    """Mapped chunks, and only the columns of the index that say where a record lies.

    `read_from_index` takes a row of the index for every record. A row of four columns of one type
    costs half of what a row of all columns does, and is all that is needed.
    """

    name = "acumenindexer"
    how = "read_from_index(in_memory=True) over four columns as objects; metadata from its index"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        records = [
            (np.frombuffer(body, np.uint8), dict(zip(NAMES[1:], metadata, strict=True)))
            for body, *metadata in data.rows
        ]
        # `split_into_chunks` calls this in one more process, and says so on standard output.
        chunk = Chunk(str(folder), Lock(), _CHUNK_BYTES, np.uint8)
        with contextlib.redirect_stdout(io.StringIO()):
            index = parallel_split_into_chunks(records, None, str(folder), chunk)
        Path(index).rename(folder / "index.csv")
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.index = load_index(folder / "index.csv")
        places = self.index[_PLACE].astype(object)
        self.read: Callable[[int], tuple[Any, Any]] = read_from_index(
            places, dtype=np.uint8, chunk_paths=str(folder), in_memory=True
        )

    def get(self, record: int) -> Body:
        body: memoryview = self.read(record)[0].data
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        read = self.read
        return [read(record)[0].data for record in records.tolist()]

    def matching(self, below: int) -> Bodies:
        return self.batch(np.flatnonzero(self.index["width"].to_numpy() < below))

    def metadata(self) -> pa.Table:
        schema = ARROW_SCHEMA.remove(0)
        return pa.Table.from_pandas(self.index[schema.names], schema, preserve_index=False)

    def scan(self) -> Iterator[Bodies]:
        everything = np.arange(len(self.index))
        for start in range(0, len(everything), _PIECE):
            yield self.batch(everything[start : start + _PIECE])

    def close(self) -> None:
        del self.read, self.index


SYSTEMS = (Acumenindexer,)
