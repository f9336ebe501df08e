"""A Parquet file of the columns alone: what reading metadata is measured against."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from benchmarks.data import Dataset
from benchmarks.reading.protocol import System
from benchmarks.reading.sidecar import read_sidecar, write_sidecar


class ParquetTable(System):
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

    def close(self) -> None:
        """Nothing is open."""


SYSTEMS = (ParquetTable,)
