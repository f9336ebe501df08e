"""A file per record, as most datasets begin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodied
from benchmarks.reading.sidecar import read_sidecar, records_below, write_sidecar

_PER_FOLDER = 1000
_SCANNED = 256


class OneFileEach(Bodied):
    """A thousand files per folder, opened relative to a descriptor of the top folder."""

    name = "one file per record + Parquet"
    how = "1,000 files per folder; open, fstat, read, close; synced all at once"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        for number, row in enumerate(data.rows):
            path = folder / _path(number)
            if number % _PER_FOLDER == 0:
                path.parent.mkdir()
            path.write_bytes(row[0])
        write_sidecar(folder, data)
        os.sync()  # a sync per file would take minutes

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def get(self, record: int) -> bytes:
        file = os.open(_path(record), os.O_RDONLY, dir_fd=self.descriptor)
        try:
            return os.read(file, os.fstat(file).st_size)
        finally:
            os.close(file)

    def batch(self, records: NDArray[np.int64]) -> list[bytes]:
        return [self.get(record) for record in records.tolist()]

    def matching(self, below: int) -> list[bytes]:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[list[bytes]]:
        folders = (one for one in self.folder.iterdir() if one.is_dir())
        count = sum(len(list(one.iterdir())) for one in folders)
        for start in range(0, count, _SCANNED):
            yield [self.get(i) for i in range(start, min(start + _SCANNED, count))]

    def close(self) -> None:
        os.close(self.descriptor)


def _path(record: int) -> str:
    return f"{record // _PER_FOLDER:04d}/{record:07d}"


SYSTEMS = (OneFileEach,)
