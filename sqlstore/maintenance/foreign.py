"""The rows of records as they are in the index, whoever has written them, beside those of the log.

Both are compared as SQLite stores them: 64-bit integers and floats, text and bytes; NaN is NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore.errors import SchemaError
from sqlstore.given import MISFIT
from sqlstore.index import records
from sqlstore.index.engine import Index
from sqlstore.schema import Column, Schema
from sqlstore.types import Ids

_STORED: Final = {
    "INTEGER": pa.int64(),
    "REAL": pa.float64(),
    "TEXT": pa.large_string(),
    "BLOB": pa.large_binary(),
}


def rows(index: Index, schema: Schema, first: int, count: int) -> tuple[Ids, list[pa.Array]]:
    """Return the ids of the rows among consecutive records, and what is stored, by column."""
    found = records.record_rows(index, schema, first, count)
    kinds = [column.kind for column in schema.columns.values()]
    ids, *values = zip(*found, strict=True) if found else [()] * (1 + len(kinds))
    arrays = [pa.array(v, _STORED[kind.storage]) for v, kind in zip(values, kinds, strict=True)]
    return np.array(ids, np.int64), arrays


def as_stored(column: Column, array: pa.Array) -> pa.Array:
    """Return declared values as SQLite stores them."""
    kind = column.kind
    plain = array.cast(kind.plain).cast(_STORED[kind.storage])
    if kind.storage == "REAL":
        return pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
    return plain


def differing(one: Any, other: Any) -> NDArray[np.int64]:
    """Return the rows in which two columns of stored values differ."""
    differs = pc.fill_null(pc.not_equal(one, other), False)
    differs = pc.or_(differs, pc.xor(pc.is_null(one), pc.is_null(other)))
    found: NDArray[np.int64] = np.flatnonzero(np.array(differs))
    return found


def declared(column: Column, stored: pa.Array, ids: Ids) -> pa.Array:
    """Return stored values as an array of the declared type.

    Raises
    ------
    SchemaError
        The column cannot hold one of them.
    """
    try:
        return _declared(column, stored)
    except MISFIT as error:
        for row, record in enumerate(ids.tolist()):
            try:
                _declared(column, stored.slice(row, 1))
            except MISFIT as one:
                raise _misfit(column, one, record=record) from one
        raise _misfit(column, error) from error


def _declared(column: Column, stored: pa.Array) -> pa.Array:
    kind = column.kind
    if stored.null_count and not column.nullable:
        raise ValueError("a value is required")
    array = stored.cast(kind.plain).cast(kind.arrow)
    kind.check(array)
    again = as_stored(column, array)
    if kind.storage == "REAL":  # rounded to 32 bits, as every other value is
        again, stored = pc.is_inf(again), pc.is_inf(stored)
    wrong = differing(again, stored)
    if len(wrong):
        raise ValueError(f"{stored[int(wrong[0])].as_py()!r} is no {kind.name}")
    return array


def _misfit(column: Column, error: Exception, **where: object) -> SchemaError:
    return SchemaError(
        f"another tool has set what the column cannot hold: {error}; nothing was taken into the "
        "log",
        column=column.name,
        **where,
    )


def refuse_inserted(ids: Sequence[int] | Ids) -> None:
    """Raise if there are rows of records that are not in the log.

    Raises
    ------
    SchemaError
        Names the first.
    """
    if len(ids):
        raise SchemaError(
            f"another tool has inserted {len(ids)} rows of records that are not in the log; delete "
            "them, and append such records with `Store.extend`; nothing was taken into the log",
            record=int(ids[0]),
        )


def refuse_outside(index: Index, next_record: int) -> None:
    """Do the same for rows with ids that no record has had."""
    sql = "SELECT id FROM main.records WHERE id < 0 OR id >= ? ORDER BY id"
    refuse_inserted([record for (record,) in index.rows(sql, (next_record,))])
