"""HuggingFace datasets: mapped Arrow files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.data import NAMES
from benchmarks.data import Dataset as Records
from benchmarks.reading.protocol import Bodies, Body, Viewed
from benchmarks.reading.sidecar import sync_tree

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from datasets import Dataset, disable_progress_bars, load_from_disk
from datasets.arrow_writer import ArrowWriter
from datasets.table import InMemoryTable

disable_progress_bars()
import_module("multiprocessing.synchronize")  # opening does, and importing is not timed

_PIECE = 1000
_MOST_BATCH_BYTES = 1 << 30  # offsets have 32 bits


class HuggingFace(Viewed):
    """As its documentation shows: `save_to_disk`, `load_from_disk`, and the format "arrow"."""

    name = "HuggingFace datasets"
    how = 'load_from_disk, with_format("arrow")[...] of the columns needed'

    @classmethod
    def write(cls, folder: Path, data: Records) -> None:
        Dataset(InMemoryTable(data.table)).save_to_disk(folder / "data")
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.dataset = load_from_disk(str(folder / "data"))
        self.bodies = self._columns("body")

    def _columns(self, *names: str) -> Any:
        # The format comes last, or every access checks that it has these columns.
        return self.dataset.select_columns(list(names)).with_format("arrow")

    def get(self, record: int) -> Body:
        body: bytes = self.bodies[record]["body"][0].as_py()
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        return self.bodies[records]["body"].combine_chunks()

    def views(self, records: NDArray[np.int64]) -> Bodies:
        """Return a chunked array: a slice of the mapped file per record."""
        return self.bodies[records]["body"]

    def matching(self, below: int) -> Bodies:
        widths = self._columns("width")[:]["width"]
        return self.batch(pc.indices_nonzero(pc.less(widths, below)).to_numpy())

    def metadata(self) -> pa.Table:
        return self._columns(*NAMES[1:])[:]

    def scan(self) -> Iterator[Bodies]:
        for table in self.bodies.iter(_PIECE):
            yield from table["body"].chunks

    def close(self) -> None:
        del self.bodies, self.dataset


class HuggingFaceTable(Viewed):
    """The Arrow table behind a data set, written as one record batch, so that `take` is quick.

    With the batches of 1,000 that `save_to_disk` writes, `take` has to put all of them together.
    """

    name = "HuggingFace datasets, its table"
    how = "Dataset.from_file(...).data.table, of one record batch: pyarrow on a mapped file"

    @classmethod
    def write(cls, folder: Path, data: Records) -> None:
        rows = max(1, _MOST_BATCH_BYTES // max(1, data.size))
        with ArrowWriter(path=str(folder / "data.arrow"), writer_batch_size=rows) as writer:
            writer.write_table(data.table)
            writer.finalize()
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.dataset = Dataset.from_file(str(folder / "data.arrow"))
        self.table: pa.Table = self.dataset.data.table
        self.bodies = self.table["body"]
        self.gathered = self.dataset.select_columns("body").data

    def get(self, record: int) -> Body:
        body: bytes = self.bodies[record].as_py()
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        return self.bodies.take(pa.array(records)).combine_chunks()

    def views(self, records: NDArray[np.int64]) -> Bodies:
        """Return a chunked array: a slice of the mapped file per record."""
        return self.gathered.fast_gather(records)["body"]

    def matching(self, below: int) -> Bodies:
        return self.bodies.filter(pc.less(self.table["width"], below)).combine_chunks()

    def metadata(self) -> pa.Table:
        return self.table.select(NAMES[1:])

    def scan(self) -> Iterator[Bodies]:
        yield from self.bodies.chunks

    def close(self) -> None:
        del self.gathered, self.bodies, self.table, self.dataset


SYSTEMS = (HuggingFace, HuggingFaceTable)
