"""The limit: a mapped file of bodies, where they end, and nothing else in between."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.measure import sync_file
from benchmarks.reading.protocol import Viewed
from benchmarks.reading.sidecar import read_sidecar, records_below, write_sidecar

BODIES, BOUNDS = "bodies", "bounds.npy"
_SCANNED = 1024
_PREFIX = 4  # bytes of a value that an Arrow view carries itself


class Bare(Viewed):
    """Bodies back to back, their bounds as a NumPy array, both mapped.

    What the bodies need for views is that each is longer than 12 bytes, and the file below 2 GiB.
    """

    name = "bare mapped file + Parquet"
    how = (
        "bodies back to back in a mapped file, their bounds in a mapped .npy; slices, Arrow's "
        "`take` over the map, views made with NumPy"
    )

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        bounds = np.zeros(len(data) + 1, np.int64)
        np.cumsum([len(row[0]) for row in data.rows], out=bounds[1:])
        with (folder / BODIES).open("wb") as file:
            file.writelines(row[0] for row in data.rows)
        np.save(folder / BOUNDS, bounds)
        sync_file(folder / BODIES)
        sync_file(folder / BOUNDS)
        write_sidecar(folder, data)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / BODIES).open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # As a plain array: every access to a memmap makes another memmap.
        self.bounds: NDArray[np.int64] = np.asarray(np.load(folder / BOUNDS, mmap_mode="r"))
        self.ends = self.bounds.data
        self.buffer = pa.py_buffer(self.map)
        # The four bytes at every offset, for the views: overlapping, and nothing is copied.
        starts = len(self.map) - _PREFIX + 1
        self.prefixes: NDArray[np.int32] = np.ndarray(starts, np.int32, self.map, strides=(1,))
        types = pa.large_binary(), len(self.bounds) - 1
        self.array = pa.Array.from_buffers(*types, [None, pa.py_buffer(self.bounds), self.buffer])

    def get(self, record: int) -> bytes:
        ends = self.ends
        return self.map[ends[record] : ends[record + 1]]

    def batch(self, records: NDArray[np.int64]) -> pa.Array:
        return self.array.take(pa.array(records))

    def views(self, records: NDArray[np.int64]) -> pa.Array:
        starts = self.bounds[records]
        views = np.zeros((len(records), 4), np.int32)  # length, prefix, buffer, offset
        views[:, 0] = self.bounds[records + 1] - starts
        views[:, 1] = self.prefixes[starts]
        views[:, 3] = starts
        buffers = [None, pa.py_buffer(views), self.buffer]
        return pa.Array.from_buffers(pa.binary_view(), len(records), buffers, 0)

    def matching(self, below: int) -> pa.Array:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[pa.Array]:
        for start in range(0, len(self.array), _SCANNED):
            yield self.array.slice(start, _SCANNED)

    def close(self) -> None:
        # The map goes when the last array over it does: it cannot be closed before.
        del self.array, self.prefixes, self.buffer, self.ends, self.bounds, self.map


SYSTEMS = (Bare,)
