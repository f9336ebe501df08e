"""ra-pickles: compressed pickles back to back, and their lengths."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ra_pickles import Reader, Writer

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodied, Bodies, Body
from benchmarks.reading.sidecar import read_sidecar, records_below, sync_tree, write_sidecar

_PIECE = 64

import_module("multiprocessing.synchronize")  # a progress bar does, and importing is not timed


class RaPickles(Bodied):
    """One file, as its files are read in the order of the random names that they get.

    `get_multi_in_parallel` is left aside: it returns bodies in any order, and is slower.
    """

    name = "ra-pickles"
    checks = "crc always"
    how = "get_element(i), which decompresses; Parquet for the metadata"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        place = folder / "pickles"
        place.mkdir()
        writer = Writer(len(data), str(place))
        for body, *_ in data.rows:
            writer.add(body)
        writer.close()
        write_sidecar(folder, data)
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # It prints, and draws a progress bar.
        quiet = io.StringIO()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            self.reader = Reader(str(folder / "pickles"))

    def get(self, record: int) -> Body:
        body: bytes = self.reader.get_element(record)
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        get = self.reader.get_element
        return [get(record) for record in records.tolist()]

    def matching(self, below: int) -> Bodies:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[Bodies]:
        everything = np.arange(self.reader.get_total())
        for start in range(0, len(everything), _PIECE):
            yield self.batch(everything[start : start + _PIECE])

    def close(self) -> None:
        self.reader.close()


SYSTEMS = (RaPickles,)
