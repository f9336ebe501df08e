"""WebDataset: tar files, which its wids reads at random."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from webdataset import TarWriter
from wids.wids_mmtar import MMIndexedTar
from wids.wids_tar import TarFileReader

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodied, Bodies, Body
from benchmarks.reading.sidecar import read_sidecar, records_below, sync_tree, write_sidecar

_NAME = "bodies.tar"
_PIECE = 64


class _WebDataset(Bodied):
    """The readers that `wids` is made of, as its own data set decodes and looks for shards too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        # A time with fractions would cost two more blocks per record.
        with TarWriter(str(folder / _NAME), encoder=False, mtime=0) as writer:
            for number, (body, *_) in enumerate(data.rows):
                writer.write({"__key__": f"{number:09d}", "bin": body})
        write_sidecar(folder, data)
        sync_tree(folder)

    def matching(self, below: int) -> Bodies:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)


class WebDatasetMapped(_WebDataset):
    """The mapped tar file, whose headers are all read to open it."""

    name = "WebDataset, mapped"
    how = "wids' MMIndexedTar.get_at_index, which it iterates in order; Parquet for the metadata"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tar = MMIndexedTar(str(folder / _NAME))

    def get(self, record: int) -> Body:
        body: bytes = self.tar.get_at_index(record)[1]
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        get = self.tar.get_at_index
        return [get(record)[1] for record in records.tolist()]

    def scan(self) -> Iterator[Bodies]:
        pairs = iter(self.tar)
        while piece := [body for _, body in islice(pairs, _PIECE)]:
            yield piece

    def close(self) -> None:
        self.tar.close()


class WebDatasetIndexed(_WebDataset):
    """The tar file with an index beside it, which makes it quick to open."""

    name = "WebDataset, index file"
    how = "wids' TarFileReader.get_file with its index file; Parquet for the metadata"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        super().write(folder, data)
        TarFileReader(str(folder / _NAME), verbose=False).close()
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tar = TarFileReader(str(folder / _NAME), verbose=False)

    def get(self, record: int) -> Body:
        body: bytes = self.tar.get_file(record)[1].getvalue()
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        get = self.tar.get_file
        return [get(record)[1].getvalue() for record in records.tolist()]

    def scan(self) -> Iterator[Bodies]:
        everything = np.arange(len(self.tar))
        for start in range(0, len(everything), _PIECE):
            yield self.batch(everything[start : start + _PIECE])

    def close(self) -> None:
        self.tar.close()


SYSTEMS = (WebDatasetMapped, WebDatasetIndexed)
