"""HDF5 through h5py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import ARROW_SCHEMA, NAMES, Dataset
from benchmarks.measure import sync_file
from benchmarks.reading.protocol import Bodied

FILE = "records.h5"
_LABEL = "S16"
_SCANNED_BYTES = 1 << 20
_GATHERED = 8192  # bodies up to this size are faster by one selection than one by one


class Hdf5(Bodied):
    """Bodies as rows of one contiguous dataset, which all must have one length; columns beside it.

    This is the best it can do: chunks, or bodies back to back with their ends, are slower.
    """

    name = "HDF5"
    how = (
        "bodies of one length as rows of a contiguous dataset, a dataset per column; small "
        "batches by one sorted selection, large ones row by row"
    )

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        with h5py.File(folder / FILE, "w", libver="latest") as file:
            bodies = np.frombuffer(data.table["body"].chunk(0).buffers()[2], np.uint8)
            file.create_dataset("body", data=bodies[: data.n_bytes].reshape(-1, data.size))
            for name in NAMES[1:]:
                values = data.table[name].to_numpy()
                file.create_dataset(name, data=values.astype(_LABEL) if name == "label" else values)
        sync_file(folder / FILE)
        sync_file(folder)

    def __init__(self, folder: Path) -> None:
        self.file = h5py.File(folder / FILE, "r")
        self.bodies = self.file["body"]

    def get(self, record: int) -> memoryview:
        body: memoryview = self.bodies[record].data
        return body

    def batch(self, records: NDArray[np.int64]) -> list[memoryview]:
        if self.bodies.shape[1] > _GATHERED:
            return [self.bodies[record].data for record in records.tolist()]
        # A selection must be sorted and without duplicates.
        wanted, places = np.unique(records, return_inverse=True)
        return [row.data for row in self.bodies[wanted][places]]

    def matching(self, below: int) -> list[memoryview]:
        return self.batch(np.flatnonzero(self.file["width"][:] < below))

    def metadata(self) -> pa.Table:
        columns = [pa.array(self.file[name][:]) for name in NAMES[1:]]
        columns[0] = columns[0].cast(pa.string())
        return pa.table(columns, pa.schema([ARROW_SCHEMA.field(name) for name in NAMES[1:]]))

    def scan(self) -> Iterator[list[memoryview]]:
        count, size = self.bodies.shape
        step = max(1, _SCANNED_BYTES // size)
        for start in range(0, count, step):
            yield [row.data for row in self.bodies[start : start + step]]

    def close(self) -> None:
        self.file.close()


SYSTEMS = (Hdf5,)
