"""MosaicML Streaming: shards in its format MDS, read in place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodied, Bodies, Body
from benchmarks.reading.sidecar import read_sidecar, records_below, sync_tree, write_sidecar

_PIECE = 64

# It loads transformers for its text data sets, which must not look for anything on the network,
# and torchvision for its images. The torchvision of PyPI does not load beside a torch without CUDA.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.modules.setdefault("streaming.vision", ModuleType("streaming.vision"))
streaming = import_module("streaming")


class MosaicmlStreaming(Bodied):
    """One column of bytes: whatever else a record holds has to be read for any part of it."""

    name = "MosaicML Streaming"
    how = "LocalDataset.get_item; no compression, no hashes; Parquet for the metadata"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        with streaming.MDSWriter(columns={"body": "bytes"}, out=str(folder / "shards")) as writer:
            for body, *_ in data.rows:
                writer.write({"body": body})
        write_sidecar(folder, data)
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = streaming.LocalDataset(str(folder / "shards"))

    def get(self, record: int) -> Body:
        body: bytes = self.dataset.get_item(record)["body"]
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        get = self.dataset.get_item
        return [get(record)["body"] for record in records.tolist()]

    def matching(self, below: int) -> Bodies:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[Bodies]:
        everything = np.arange(self.dataset.size)
        for start in range(0, len(everything), _PIECE):
            yield self.batch(everything[start : start + _PIECE])

    def close(self) -> None:
        """Do nothing: the library opens its files for every record."""


SYSTEMS = (MosaicmlStreaming,)
