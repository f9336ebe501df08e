"""Records that have the same payload: found by what the location cache tells, then compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.arrow import int64_array
from sqlstore.cache.locations import ABSENT, COMPRESSION, CRC
from sqlstore.portions import runs
from sqlstore.schema import Field
from sqlstore.source import Source
from sqlstore.types import Ids

_AT_ONCE: Final = 64 * limits.MiB
"""Bytes that are read together, unless one value is larger."""
_MARKS_AT_ONCE: Final = 1 << 20
_SCHEMA: Final = pa.schema(
    [pa.field(name, pa.int64(), nullable=False) for name in ("group", "id", "bytes")]
)


def duplicates(source: Source, ids: Ids, field: Field) -> pa.Table:
    """Return the records of which another one has the same bytes in a field.

    Parameters
    ----------
    ids
        The records, ascending.
    """
    steps = range(0, len(ids), _MARKS_AT_ONCE)
    marks = np.concatenate(
        [
            np.empty((0, 4), np.uint32),
            *(_marks(source, ids[start : start + _MARKS_AT_ONCE], field) for start in steps),
        ]
    )
    is_there = marks[:, 0] != ABSENT
    ids, marks = ids[is_there], marks[is_there]
    places, starts = _alike(marks)
    ids, sizes = ids[places], marks[places, 1].astype(np.int64)
    first = _compared(source, ids, sizes, starts, field)
    # A value that was alike by its checksum only is alone now.
    _, inverse, counts = np.unique(first, return_inverse=True, return_counts=True)
    is_shared = counts[inverse] > 1
    _, group = np.unique(first[is_shared], return_inverse=True)
    columns = (group, ids[is_shared], sizes[is_shared])
    order = np.argsort(group, kind="stable")
    return pa.Table.from_arrays(
        [int64_array(np.ascontiguousarray(one[order], np.int64)) for one in columns],
        schema=_SCHEMA,
    )


def _marks(source: Source, ids: Ids, field: Field) -> NDArray[np.uint32]:
    """Return for each value its compression, size, number of items, and checksum as stored."""
    return source.rows(ids, field)[:, COMPRESSION : CRC + 1]


def _alike(marks: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows that are there twice, equal ones side by side, and which begin a group."""
    words = np.ascontiguousarray(marks).view(np.uint64)
    order = np.lexsort((words[:, 1], words[:, 0]))
    inner = words[order]
    differs = np.ones(len(order) + 1, bool)
    differs[1:-1] = (inner[1:] != inner[:-1]).any(axis=1)
    is_alike = ~(differs[1:] & differs[:-1])
    return order[is_alike], differs[:-1][is_alike]


def _compared(
    source: Source, ids: Ids, sizes: NDArray[np.int64], starts: NDArray[np.bool_], field: Field
) -> Ids:
    """Return for each record the first one that has the same bytes."""
    first = np.empty(len(ids), np.int64)
    distinct: list[tuple[object, int]] = []  # the values of one group: one, as a rule
    for place, value in enumerate(_values(source, ids, sizes, field)):
        if starts[place]:
            distinct = []
        found = next((record for known, record in distinct if known == value), None)
        if found is None:
            found = int(ids[place])
            distinct.append((value, found))
        first[place] = found
    return first


def _values(source: Source, ids: Ids, sizes: NDArray[np.int64], field: Field) -> Iterator[object]:
    """Return what records have in a field, some of them read at a time."""
    if field.is_sequence:
        for record in ids.tolist():
            yield tuple(map(bytes, source.items(record, field) or ()))
        return
    for run in runs(sizes, _AT_ONCE):
        for value in source.bodies(ids[run], field).each():
            yield bytes(value or b"")
