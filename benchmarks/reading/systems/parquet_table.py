"""A Parquet file of the columns alone: what reading metadata is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.sidecar import read_sidecar, write_sidecar
from benchmarks.reading.variant import Variant

_NO_BODIES = "a Parquet file of the columns has no bodies"


class ParquetTable(Variant):
    """The five columns and nothing else."""

    name = "Parquet, columns only"
    how = "`pyarrow.parquet.read_table`, written with pyarrow's defaults"
    measures = frozenset({"metadata"})

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        write_sidecar(folder, data)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def get(self, record: int) -> bytes:
        raise NotImplementedError(_NO_BODIES)

    def batch(self, records: NDArray[np.int64]) -> pa.Array:
        raise NotImplementedError(_NO_BODIES)

    def matching(self, below: int) -> pa.Array:
        raise NotImplementedError(_NO_BODIES)

    def scan(self) -> Iterator[pa.Array]:
        raise NotImplementedError(_NO_BODIES)

    def close(self) -> None:
        """Nothing is open."""


SYSTEMS = (ParquetTable,)
