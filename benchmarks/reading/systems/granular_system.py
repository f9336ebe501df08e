"""granular: a file of records and a file of where each ends, per field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import granular
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodied
from benchmarks.reading.sidecar import read_sidecar, records_below, sync_tree, write_sidecar

_SPEC = {"body": "bytes"}
_MASK = ("body",)
_SCANNED_BYTES = 1 << 20


class Granular(Bodied):
    """`DatasetReader` with a mask, so that nothing but the body is read.

    The columns are in Parquet: granular decodes values one by one, and takes ten times as long to
    read them from fields of its own.
    """

    name = "granular + Parquet"
    how = "`DatasetReader`, one `bytes` field, a mask; ranges for the scan; columns in Parquet"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        with granular.DatasetWriter(folder / "granular", _SPEC, granular.encoders) as writer:
            for row in data.rows:
                writer.append({"body": row[0]}, flush=False)
        sync_tree(folder / "granular")
        write_sidecar(folder, data)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = granular.DatasetReader(folder / "granular", granular.decoders)

    def get(self, record: int) -> bytes:
        body: bytes = self.reader[record, _MASK]["body"]
        return body

    def batch(self, records: NDArray[np.int64]) -> list[bytes]:
        reader = self.reader
        return [reader[record, _MASK]["body"] for record in records.tolist()]

    def matching(self, below: int) -> list[bytes]:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[list[bytes]]:
        count = len(self.reader)
        step = max(1, _SCANNED_BYTES * count // max(1, self.reader.size))
        for start in range(0, count, step):
            yield self.reader[range(start, min(start + step, count)), _MASK]["body"]

    def close(self) -> None:
        self.reader.close()


SYSTEMS = (Granular,)
