"""LitData: chunks of samples, mapped when they are on a local disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodies, Body, Viewed
from benchmarks.reading.sidecar import read_sidecar, records_below, sync_tree, write_sidecar

# No look-up of newer versions, and no search for the end of a page that only the next samples need.
os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
os.environ.setdefault("LITDATA_POSIX_PAGE_BYTES", "0")

from litdata import StreamingDataset
from litdata.streaming import Cache

_CHUNK_BYTES = "1GB"
_PIECE = 256


class LitData(Viewed):
    """Samples that are nothing but bytes, in one chunk, decoded one by one unless in order.

    By default 256 samples are decoded for each that is asked for, which makes random access thirty
    times slower, and reading in order faster.
    """

    name = "LitData"
    how = "StreamingDataset(batch_decode=0)[i], its default in order; Parquet for the metadata"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        cache = Cache(str(folder / "chunks"), chunk_bytes=_CHUNK_BYTES)
        for number, (body, *_) in enumerate(data.rows):
            cache[number] = body
        cache.done()
        cache.merge()
        write_sidecar(folder, data)
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = StreamingDataset(str(folder / "chunks"), batch_decode=0)

    def get(self, record: int) -> Body:
        body: memoryview = self.dataset[record]
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        dataset = self.dataset
        return [bytes(dataset[record]) for record in records.tolist()]

    def views(self, records: NDArray[np.int64]) -> Bodies:
        dataset = self.dataset
        return [dataset[record] for record in records.tolist()]

    def matching(self, below: int) -> Bodies:
        return self.views(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[Bodies]:
        # As a generator: the data set itself starts again whenever it is asked for an iterator.
        bodies = (body for body in StreamingDataset(str(self.folder / "chunks")))
        while piece := list(islice(bodies, _PIECE)):
            yield piece

    def close(self) -> None:
        del self.dataset


SYSTEMS = (LitData,)
