"""What the index says of commits whose own words are damaged, as the log would say it.

Where a value lies is checked by its bytes, as ``checksum`` in the index is made of theirs. Nothing
checks metadata in the index but SQLite's own look at its pages, so it is only used where nothing
else is left.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import checksum, replay
from sqlstore.arrow import validity
from sqlstore.errors import CorruptIndexError, CorruptStoreError
from sqlstore.given import MISFIT
from sqlstore.index import dictionaries, records
from sqlstore.index import subsets as index_subsets
from sqlstore.index.engine import Index
from sqlstore.log import checkpoint, ipc, table
from sqlstore.log import dictionary as log_dictionary
from sqlstore.log.reader import ChunkReader
from sqlstore.log.segment import CommitKind
from sqlstore.log.subsets import Described, fingerprint_of
from sqlstore.log.table import Values
from sqlstore.maintenance import foreign
from sqlstore.maintenance.repair.salvage import Salvage
from sqlstore.schema import Column, Field, Schema
from sqlstore.types import Ids


def brought_up(index: Index, path: Path, reader: ChunkReader, salvage: Salvage) -> Index | None:
    """Return a copy of an older index with all commits behind it, or None if they do not fit.

    A writer that was killed leaves one commit that the index lacks, a repair some.

    Parameters
    ----------
    path
        Where to put the copy.
    """
    last = records.last_commit(index).number
    behind = [known.link for known in salvage.commits if known.row.number > last]
    index.copy_to(path)
    with contextlib.ExitStack() as stack, contextlib.suppress(CorruptStoreError):
        copy = Index(path, write=True)
        stack.callback(copy.close)
        schema = records.schema(copy)
        for number, link in enumerate(behind, start=last + 1):
            if link is None or link.trailer.number != number:
                return None
            with copy.transaction():
                how = reader, link.chunk, link.trailer
                schema = replay.insert_from_log(copy, schema, *how, sealed=True)
                copy.commit()
        stack.pop_all()
        return copy
    return None


def values(
    index: Index, field: Field, first: int, stop: int
) -> tuple[Ids, Values, NDArray[np.uint32]]:
    """Return where the index says that values of some records lie: ids, places and chunks.

    Raises
    ------
    CorruptIndexError
        It says what cannot be.
    """
    found = records.blob_rows(index, field.number, first, stop - first)
    if not found:
        return np.empty(0, np.int64), table.no_values(0), np.empty(0, np.uint32)
    _, ids, chunk, offset, length, raw_length, compression, items, check = zip(*found, strict=True)
    try:
        record = np.array(ids, np.int64)
        kind, raw = np.array(compression, np.uint8), np.array(raw_length, np.uint32)
        count = np.array(items, np.uint32)
        mixed = checksum.mix32(record, field.number, kind, raw, count)
        crc = np.array(check, np.uint32) ^ mixed
        place = np.array(offset, np.uint32), np.array(length, np.uint32)
        here = np.ones(len(record), bool)
        return record, Values(here, *place, raw, count, crc, kind), np.array(chunk, np.uint32)
    except (OverflowError, TypeError, ValueError) as error:
        raise CorruptIndexError(f"{index.path} places values where none can be: {error}") from error


def append(
    index: Index, schema: Schema, first: int, stop: int, chunk: int
) -> tuple[Ids, pa.RecordBatch]:
    """Return the table of an append as the index still has it, and which records that are.

    The others were deleted since, and are null. A value that lies in another chunk by now was
    replaced, or moved, by a later commit.
    """
    ids, columns = _columns(index, schema, first, stop)
    at, count = ids - first, stop - first
    spread = {number: _spread(array, at, count) for number, array in columns.items()}
    placed = {}
    for field in schema.fields.values():
        whose, found, chunks = values(index, field, first, stop)
        here = chunks == chunk
        placed[field.number] = _scattered(
            found.rows(np.flatnonzero(here)), whose[here] - first, count
        )
    return ids, ipc.parse(table.build_append(placed, spread), "", 0)


def part(index: Index, schema: Schema, first: int, stop: int) -> tuple[Ids, pa.RecordBatch]:
    """Return the table of a part of a checkpoint as the index still has it, and its records."""
    ids, columns = _columns(index, schema, first, stop)
    placed = {}
    for field in schema.fields.values():
        whose, found, chunks = values(index, field, first, stop)
        among = np.isin(whose, ids)
        at = np.searchsorted(ids, whose[among])
        where = np.zeros(len(ids), np.uint32)
        where[at] = chunks[among]
        rows = found.rows(np.flatnonzero(among))
        placed[field.number] = _scattered(rows, at, len(ids)), where
    return ids, ipc.parse(checkpoint.build_part(ids, columns, placed), "", 0)


def _columns(
    index: Index, schema: Schema, first: int, stop: int
) -> tuple[Ids, dict[int, pa.Array]]:
    try:
        ids, stored = foreign.rows(index, schema, first, stop - first)
        declared = {
            column.number: with_nan(column, foreign.declared(loosened(column), array, ids))
            for column, array in zip(schema.columns.values(), stored, strict=True)
        }
    except MISFIT as error:
        raise CorruptIndexError(f"{index.path} holds what no column can: {error}") from error
    return ids, declared


def loosened(column: Column) -> Column:
    """Return a column that may be null if SQLite has null in it for NaN."""
    return replace(column, nullable=True) if column.kind.storage == "REAL" else column


def with_nan(column: Column, values: pa.Array) -> pa.Array:
    """Return the values of a loosened column with NaN where only that can be meant."""
    if column.nullable or column.kind.storage != "REAL":
        return values
    return values.fill_null(float("nan"))


def _spread(array: pa.Array, at: Ids, count: int) -> pa.Array:
    """Return an array of some length with these values at their places, null elsewhere."""
    rows, there = np.zeros(count, np.int64), np.zeros(count, bool)
    rows[at], there[at] = np.arange(len(at)), True
    taken = pa.Array.from_buffers(pa.int64(), count, [validity(there), pa.py_buffer(rows)])
    return array.take(taken)


def _scattered(found: Values, at: Ids, count: int) -> Values:
    """Return places of values by row, where there are some."""
    spread = {}
    for name in Values.__slots__:
        one = getattr(found, name)
        spread[name] = np.zeros(count, one.dtype)
        spread[name][at] = one
    return Values(**spread)


def dictionary(index: Index, number: int, chunk: int) -> pa.RecordBatch | None:
    """Return the table of the commit of a dictionary, if the index still has it in that chunk."""
    for row in dictionaries.listed(index):
        if (row.number, row.chunk) == (number, chunk):
            said = row.number, row.field, row.offset, row.length, row.crc
            arrays = [pa.array([one], pa.uint32()) for one in said]
            return pa.record_batch(arrays, schema=log_dictionary.ROW)
    return None


def saved(index: Index) -> tuple[list[tuple[int, Described, Ids]], dict[int, str]]:
    """Return the subsets whose members are proven by their fingerprint, and names of others."""
    found, wrong = [], dict[int, str]()
    for row in index_subsets.listed(index):
        ids = np.array(index_subsets.members(index, row.number), np.int64)
        if fingerprint_of(ids) == row.fingerprint and len(ids) == row.records:
            said = row.sql, row.parameters, row.note, row.fingerprint, row.content
            found.append((row.number, Described(row.name, *said), ids))
        else:
            wrong[row.number] = row.name
    return found, wrong


SUBSET_KINDS = CommitKind.SAVE_SUBSET, CommitKind.DROP_SUBSET
