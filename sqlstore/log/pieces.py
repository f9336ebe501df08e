"""The tables that a checkpoint consists of, and whether what they say can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import pyarrow as pa

from sqlstore import limits
from sqlstore.dictionaries import MOST

Rows: TypeAlias = Sequence[Mapping[str, Any]]
_UUID: Final = pa.binary(16)


def _rows(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


PIECES: Final = _rows(
    ("kind", pa.string()),
    ("number", pa.int64()),
    ("field", pa.int32()),
    ("offset", pa.uint32()),
    ("length", pa.uint32()),
    ("crc", pa.uint32()),
)
TABLES: Final[Mapping[str, pa.Schema]] = {
    "commits": _rows(
        ("number", pa.int64()),
        ("uuid", _UUID),
        ("kind", pa.int32()),
        ("chunk", pa.uint32()),
        ("offset", pa.uint32()),
        ("committed_at", pa.int64()),
        ("first_record", pa.int64()),
        ("records", pa.int64()),
    ),
    "chunks": _rows(
        ("chunk", pa.uint32()),
        ("name", pa.string()),
        ("uuid", _UUID),
        ("size", pa.uint32()),
        ("live", pa.bool_()),
        ("retired", pa.bool_()),
    ),
    "snapshots": pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("note", pa.string()),
            pa.field("commit", pa.int64(), nullable=False),
            pa.field("uuid", _UUID, nullable=False),
            pa.field("taken_at", pa.int64(), nullable=False),
            pa.field("chunks", pa.list_(pa.uint32()), nullable=False),
        ]
    ),
}


def has_gaps(batch: pa.RecordBatch) -> bool:
    """Return whether a value is missing where there must be one."""
    columns = zip(batch.schema, batch.columns, strict=True)
    return any(column.null_count for field, column in columns if not field.nullable)


def can_be(kind: str, rows: Rows, as_of: int, next_record: int) -> bool:
    """Return whether the rows of `commits`, `chunks` or `snapshots` can be what a store has had.

    Parameters
    ----------
    as_of
        The number of the commit whose state it is.
    next_record
        The id that the next record would have got.
    """
    if kind == "commits":
        return _can_be_commits(rows, as_of, next_record)
    if kind == "chunks":
        return _can_be_chunks(rows, as_of)
    return all(
        0 < row["commit"] <= as_of
        and row["taken_at"] in limits.MOMENTS
        and None not in row["chunks"]
        for row in rows
    ) and _are_different(row["name"] for row in rows)


def _can_be_commits(rows: Rows, as_of: int, next_record: int) -> bool:
    """Return whether commits append records without a gap, and lie in chunks that can be."""
    record = 0
    for row in rows:
        if row["first_record"] != record or row["records"] < 0 or row["chunk"] > as_of:
            return False
        record += row["records"]
    return record == next_record


def _can_be_chunks(rows: Rows, as_of: int) -> bool:
    """Return whether each chunk is there once, and has a number that leaves some to come."""
    return _are_different(row["chunk"] for row in rows) and not any(
        row["chunk"] > as_of or (row["live"] and row["retired"]) for row in rows
    )


def can_be_numbers(pieces: Rows, as_of: int) -> bool:
    """Return whether subsets and dictionaries have numbers of their own that can be theirs."""
    subsets = [piece["number"] for piece in pieces if piece["kind"] == "subset"]
    dictionaries = [piece for piece in pieces if piece["kind"] == "dictionary"]
    return (
        all(0 < number <= as_of for number in subsets)
        and all(0 <= one["number"] < MOST and one["field"] >= 0 for one in dictionaries)
        and _are_different(subsets)
        and _are_different(one["number"] for one in dictionaries)
    )


def _are_different(values: Iterable[object]) -> bool:
    listed = list(values)
    return len(set(listed)) == len(listed)
