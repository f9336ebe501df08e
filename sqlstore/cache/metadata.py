"""The metadata mirror: the metadata columns of all records as mapped Arrow, in a few parts.

A part holds consecutive records. New records become a new part, and a part is merged with the one
before it as long as that is not much larger, so there are few of them and each row is rewritten few
times.
"""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from sqlstore import limits
from sqlstore.arrow import int64_array
from sqlstore.cache.manifest import Part
from sqlstore.errors import CorruptCacheError, CorruptChunkError, RecordNotFoundError, StorageError
from sqlstore.log import files, ipc, table
from sqlstore.log.edits import Edited
from sqlstore.positions import as_array, is_ascending
from sqlstore.schema import Column
from sqlstore.types import Ids

_MERGE_RATIO: Final = 2
_Take: TypeAlias = Callable[[pa.Array], pa.Array]


class Mirror:
    """Reads the metadata mirror.

    Parameters
    ----------
    folder
        Where the parts lie.
    parts
        By record id; together they hold every record that is asked for. Its checksum is looked at
        when a part is first used.
    """

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self._folder = folder
        self._parts = parts
        self._firsts = [part.first for part in parts]
        self._columns: dict[tuple[int, int], pa.Array] = {}
        self._batches: dict[int, pa.RecordBatch] = {}

    def extended(self, parts: Sequence[Part]) -> Mirror:
        """Return the mirror of more records; parts that are in both are mapped already."""
        later = Mirror(self._folder, parts)
        number_of = {part: number for number, part in enumerate(parts)}
        for number, batch in self._batches.items():
            if self._parts[number] in number_of:
                later._batches[number_of[self._parts[number]]] = batch
        return later

    def hold(self) -> None:
        """Map every part now, so that it can be read even when others replace it.

        Raises
        ------
        CorruptCacheError
            A part is missing or damaged.
        """
        for number in range(len(self._parts)):
            self._batch(number)

    def columns(self, ids: range | Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        """Return metadata columns of records, in the order of the ids: each in some pieces.

        Parameters
        ----------
        ids
            Record ids; any order, repeats allowed.

        Raises
        ------
        RecordNotFoundError
            There is no such record.
        CorruptCacheError
            A part is missing or damaged.
        """
        if not columns:  # a store without any has no parts, and knows of no record
            return []
        if isinstance(ids, range) and ids.step == 1:
            pieces = self._slices(ids)
            return [
                [self._column(part, column).slice(row, count) for part, row, count in pieces]
                for column in columns
            ]
        return self._gathered(as_array(ids), columns)

    def _gathered(self, ids: Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        try:
            return self._taken(ids, columns)
        except pa.ArrowInvalid:  # more than the 2 GiB of text that one array holds
            half = len(ids) // 2
            if not half:
                raise
            halves = self._gathered(ids[:half], columns), self._gathered(ids[half:], columns)
            return [[*first, *second] for first, second in zip(*halves, strict=True)]

    def _slices(self, ids: range) -> list[tuple[int, int, int]]:
        """Return the parts that consecutive ids lie in, with first row and count in each."""
        pieces = []
        start = ids.start
        while start < ids.stop:
            number = bisect.bisect_right(self._firsts, start) - 1
            row = start - self._firsts[number] if number >= 0 else -1
            count = min(self._parts[number].records - row, ids.stop - start) if row >= 0 else 0
            if count <= 0:
                raise RecordNotFoundError("there is no such record", record=start)
            pieces.append((number, row, count))
            start += count
        return pieces

    def _taken(self, ids: Ids, columns: Sequence[Column]) -> list[list[pa.Array]]:
        """Take from one part after the other, then put everything into the order asked for."""
        order = None if is_ascending(ids) else np.argsort(ids, kind="stable")
        inner = ids if order is None else ids[order]
        pieces = self._spread(inner)
        found = [
            [take(self._column(number, column)) for number, take in pieces] for column in columns
        ]
        if order is None:
            return found
        back = np.empty(len(ids), np.int64)
        back[order] = np.arange(len(ids))
        positions = int64_array(back)
        return [pa.chunked_array(arrays).take(positions).chunks for arrays in found]

    def _spread(self, ids: Ids) -> list[tuple[int, _Take]]:
        """Return the parts that ascending ids lie in, and what takes their rows from a column."""
        edges = np.searchsorted(ids, np.array(self._firsts, np.int64)).tolist()
        edges = [*edges, len(ids)]
        if edges[0]:
            raise RecordNotFoundError("there is no such record", record=int(ids[0]))
        pieces = []
        for number, (start, stop) in enumerate(pairwise(edges)):
            if start < stop:
                part = self._parts[number]
                rows = ids[start:stop] - part.first
                if rows[-1] >= part.records:
                    outside = rows[np.searchsorted(rows, part.records)] + part.first
                    raise RecordNotFoundError("there is no such record", record=int(outside))
                pieces.append((number, _taking(rows, part.records)))
        return pieces

    def _column(self, number: int, column: Column) -> pa.Array:
        array = self._columns.get((number, column.number))
        if array is None:
            array = table.parse_column(self._batch(number), column)
            if array.type != column.kind.arrow:
                raise CorruptCacheError(f"{self._parts[number].file} has another {column.name!r}")
            self._columns[number, column.number] = array
        return array

    def _batch(self, number: int) -> pa.RecordBatch:
        batch = self._batches.get(number)
        if batch is None:
            batch = self._batches[number] = load(self._folder, self._parts[number])
        return batch


def _taking(rows: Ids, count: int) -> _Take:
    """Return what takes ascending rows from an array of a length.

    Nearly all of them, as after a few deletes, are taken by a filter in a third of the time.
    """
    if len(rows) * 2 > count and bool(np.all(rows[1:] > rows[:-1])):
        mask = np.zeros(count, bool)
        mask[rows] = True
        chosen = pa.array(mask)
        return lambda array: array.filter(chosen)
    places = int64_array(rows)
    return lambda array: array.take(places)


def load(folder: Path, part: Part) -> pa.RecordBatch:
    """Return a part, mapped.

    Raises
    ------
    CorruptCacheError
        It is missing, or not what was written.
    """
    try:
        buffer = files.mapped(folder / part.file)
        if buffer.size != part.size or zlib.crc32(buffer) != part.crc:
            raise CorruptCacheError(f"{part.file} in {folder} is not what was written")
        batch = ipc.parse(buffer, part.file, 0)
    except (StorageError, CorruptChunkError) as error:
        raise CorruptCacheError(f"{part.file} in {folder} cannot be read: {error}") from error
    if batch.num_rows != part.records:
        raise CorruptCacheError(f"{part.file} in {folder} has {batch.num_rows} rows")
    return batch


def extended(
    folder: Path,
    parts: Sequence[Part],
    first: int,
    batches: Sequence[pa.RecordBatch],
    columns: Sequence[Column],
    commit: int,
) -> tuple[Part, ...]:
    """Write later records, and return the parts that there are then.

    Parameters
    ----------
    first
        The id of the first of the records.
    batches
        Their segment tables, in order.
    columns
        What is written of them.
    commit
        The number of the last commit that is in the parts.
    """
    waiting = list(batches)
    records = sum(batch.num_rows for batch in batches)
    size = sum(batch.nbytes for batch in batches)
    kept = list(parts)
    while (
        kept
        and kept[-1].first + kept[-1].records == first
        and kept[-1].records <= _MERGE_RATIO * records
        and kept[-1].size + size <= limits.CACHE_PART_BYTES
    ):
        last = kept.pop()
        waiting.insert(0, load(folder, last))
        first, records, size = last.first, records + last.records, size + last.size
    joined = [
        pa.concat_arrays([table.parse_column(batch, column) for batch in waiting])
        for column in columns
    ]
    return (*kept, _written(folder, first, joined, columns, commit))


def laid_over(
    folder: Path,
    parts: Sequence[Part],
    edited: Edited,
    columns: Sequence[Column],
    commit: int,
) -> tuple[Part, ...]:
    """Write the parts anew that have records that were updated, and return all parts.

    Parameters
    ----------
    columns, commit
        As in `extended`.
    """
    updated = edited.updated
    then = []
    for part in parts:
        low, high = np.searchsorted(updated, [part.first, part.first + part.records])
        if low < high:
            batch, ids = load(folder, part), np.arange(part.first, part.first + part.records)
            arrays = [
                edited.laid_over(table.parse_column(batch, column), ids, column.number)
                for column in columns
            ]
            part = _written(folder, part.first, arrays, columns, commit)
        then.append(part)
    return tuple(then)


def _written(
    folder: Path, first: int, arrays: Sequence[pa.Array], columns: Sequence[Column], commit: int
) -> Part:
    joined = pa.RecordBatch.from_arrays(arrays, names=[f"c{c.number}" for c in columns])
    data = table.stream(joined)
    part = Part(first, joined.num_rows, data.size, zlib.crc32(data), commit)
    files.put(folder / part.file, data)
    return part
