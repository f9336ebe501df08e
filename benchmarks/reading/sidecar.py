"""The Parquet file beside the bodies, for systems that keep no metadata of their own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.data import NAMES, Dataset
from benchmarks.measure import sync_file

NAME = "metadata.parquet"


def write_sidecar(folder: Path, data: Dataset) -> None:
    """Write the five columns with pyarrow's own settings, and sync them."""
    pq.write_table(data.table.select(NAMES[1:]), folder / NAME)
    sync_file(folder / NAME)
    sync_file(folder)


def read_sidecar(folder: Path) -> pa.Table:
    """Return the five columns."""
    return pq.read_table(folder / NAME)


def records_below(folder: Path, below: int) -> NDArray[np.int64]:
    """Return the numbers of the records whose width is below a bound; only that column is read."""
    widths = pq.read_table(folder / NAME, columns=["width"])["width"]
    numbers: NDArray[np.int64] = np.flatnonzero(pc.less(widths, below).to_numpy())
    return numbers


def sync_tree(folder: Path) -> None:
    """Make everything in a folder durable, for systems that do not sync by themselves."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(place, name))
        sync_file(Path(place))
