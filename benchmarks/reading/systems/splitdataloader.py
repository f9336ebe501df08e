"""splitdataloader: records dealt out to bins, and a file that says where each one lies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from splitdataloader import SplitDataLoader, write_split_data

from benchmarks.data import Dataset
from benchmarks.reading.protocol import Bodied, Bodies, Body
from benchmarks.reading.sidecar import read_sidecar, records_below, sync_tree, write_sidecar

_MOST_BINS = 128
_PIECE = 64


class Splitdataloader(Bodied):
    """Bins that hold a run of records each, so that they can be read bin after bin, in order.

    The library deals packets out to the bins in turn, and reads whole bins fastest. Packets are
    therefore written in such an order that every bin gets records that follow each other.
    """

    name = "splitdataloader"
    how = "loader[i]; bin after bin for all; Parquet for the metadata"

    @classmethod
    def write(cls, folder: Path, data: Dataset) -> None:
        bins = math.gcd(len(data), _MOST_BINS)
        order = np.arange(len(data)).reshape(bins, -1).T.ravel().tolist()
        rows = data.rows
        write_split_data(str(folder / "bins"), (rows[i][0] for i in order), splits=bins)
        write_sidecar(folder, data)
        sync_tree(folder)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loader = SplitDataLoader(str(folder / "bins"))
        self.bins = sum(1 for _ in (folder / "bins").glob("bin*.dat"))
        self.in_bin = len(self.loader) // self.bins

    def get(self, record: int) -> Body:
        number, place = divmod(record, self.in_bin)
        body: bytes = self.loader[place * self.bins + number]
        return body

    def batch(self, records: NDArray[np.int64]) -> Bodies:
        numbers, places = np.divmod(records, self.in_bin)
        loader = self.loader
        return [loader[packet] for packet in (places * self.bins + numbers).tolist()]

    def matching(self, below: int) -> Bodies:
        return self.batch(records_below(self.folder, below))

    def metadata(self) -> pa.Table:
        return read_sidecar(self.folder)

    def scan(self) -> Iterator[Bodies]:
        bodies = self.loader.iterate_binwise()
        while piece := list(islice(bodies, _PIECE)):
            yield piece

    def close(self) -> None:
        """Do nothing: the library opens its files for every record."""


SYSTEMS = (Splitdataloader,)
