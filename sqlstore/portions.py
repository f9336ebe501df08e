"""Records some at a time, so that their payload fits into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.cache import locations
from sqlstore.schema import Field
from sqlstore.source import Source
from sqlstore.types import Ids


def portions(
    source: Source,
    ids: range | Ids,
    fields: Sequence[Field],
    most_records: int,
    most_bytes: int = limits.BATCH_BYTES,
) -> Iterator[range | Ids]:
    """Return ids in their order, some at a time.

    Parameters
    ----------
    fields
        Those whose values will be in memory together.
    most_records, most_bytes
        What is at most in a portion; a single record may be larger.
    """
    for start in range(0, len(ids), most_records):
        group = ids[start : start + most_records]
        sizes = np.zeros(len(group), np.int64)
        for field in fields:
            rows = source.rows(group, field)
            # The larger one of a value that is stored compressed, or of a sequence with its footer.
            sizes += np.maximum(rows[:, locations.RAW_LENGTH], rows[:, locations.LENGTH])
        for run in runs(sizes, most_bytes):
            yield group[run]


def runs(sizes: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Return neighbours whose sizes sum to at most so much; a single one may be larger."""
    ends = np.cumsum(sizes)
    start, before = 0, 0
    while start < len(sizes):
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(start, stop)
        start, before = stop, int(ends[stop - 1])
