"""Tables of the user's own, which one query joins with the records.

They are temporary tables of the connection for reading, made inside a transaction that is rolled
back after the query: whatever happens, nothing of them stays.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import pyarrow as pa

from sqlstore.arrow import is_of_pandas
from sqlstore.columns import ColumnType, column_type
from sqlstore.columns.base import is_bytes, is_text, plain_arrow
from sqlstore.errors import QueryError, SqlstoreError
from sqlstore.index import plan
from sqlstore.index.engine import Index
from sqlstore.index.guarded import unrestricted
from sqlstore.index.records import quoted
from sqlstore.index.statement import Statement
from sqlstore.types import SqlValue

_ROWS_AT_ONCE: Final = 65_536
_RESERVED: Final = re.compile(r"(sqlite|pragma)_.*|json_(each|tree)", re.IGNORECASE)
"""SQLite's own tables and table-valued functions."""
_MISFIT: Final = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError)


class JoinedColumn(NamedTuple):
    """A column of a table: its name, its type, and its values in some pieces."""

    name: str
    kind: ColumnType
    pieces: Sequence[pa.Array]


class Joined(NamedTuple):
    """A table of the user's own."""

    name: str
    columns: Sequence[JoinedColumn]

    def create(self, types: Sequence[str] | None = None) -> str:
        """Return the SQL that makes the table, temporary and empty.

        Parameters
        ----------
        types
            What its columns are declared as; as SQLite stores them by default.
        """
        declared = types or [column.kind.storage for column in self.columns]
        columns = [
            f"{quoted(column.name)} {storage}"
            for column, storage in zip(self.columns, declared, strict=True)
        ]
        strict = "" if types else " STRICT"
        return f"CREATE TEMP TABLE {quoted(self.name)} ({', '.join(columns)}){strict}"

    def emptied(self) -> Joined:
        """Return the table without its rows."""
        return Joined(self.name, [column._replace(pieces=[]) for column in self.columns])

    def rows(self) -> Iterator[list[list[SqlValue]]]:
        """Return what SQLite stores, column by column, some thousands of rows at a time."""
        names = [column.name for column in self.columns]
        arrays = [pa.chunked_array(column.pieces, column.kind.arrow) for column in self.columns]
        for batch in pa.table(arrays, names).to_batches(_ROWS_AT_ONCE):
            yield [
                column.kind.to_sql(array)
                for column, array in zip(self.columns, batch.columns, strict=True)
            ]


def joined(tables: Mapping[str, Any] | None, taken: Collection[str]) -> list[Joined]:
    """Return the tables that somebody gives with a query.

    Parameters
    ----------
    tables
        By name: anything with an Arrow stream, a pandas DataFrame, or a mapping of columns.
    taken
        The names that the index has, in small letters.

    Raises
    ------
    QueryError
        A name cannot be used, or a value cannot be kept by SQLite.
    """
    if tables is None:
        return []
    if not isinstance(tables, Mapping):
        raise QueryError(f'tables is a mapping such as {{"clip": table}}, not {tables!r}')
    found: dict[str, Joined] = {}
    for name, given in tables.items():
        _check_name(name, taken)
        if name.casefold() in found:
            raise QueryError(f"two tables are named {name!r}; SQL ignores case")
        found[name.casefold()] = Joined(name, _columns(name, _arrow(name, given)))
    return list(found.values())


def _check_name(name: object, taken: Collection[str]) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise QueryError(f"a table cannot be named {name!r}: use letters, digits and _")
    if name.casefold() in taken or _RESERVED.fullmatch(name):
        raise QueryError(f"a table cannot be named {name!r}: there is one of that name already")


def _arrow(name: str, given: Any) -> pa.Table:
    try:
        if is_of_pandas(given, "DataFrame"):
            return pa.Table.from_pandas(given, preserve_index=False)
        if isinstance(given, pa.RecordBatch):
            return pa.Table.from_batches([given])
        if isinstance(given, Mapping) or hasattr(given, "__arrow_c_stream__"):
            return pa.table(given)
    except SqlstoreError:
        raise
    except _MISFIT as error:
        raise QueryError(f"table {name!r} cannot be read: {error}") from error
    raise QueryError(
        f"table {name!r} is a {type(given).__name__}; give a pyarrow Table, a DataFrame, a view, "
        'or a mapping of columns such as {"record": [3, 1], "score": [0.9, 0.2]}'
    )


def _columns(name: str, table: pa.Table) -> list[JoinedColumn]:
    names = table.column_names
    if not names:
        raise QueryError(f"table {name!r} has no columns")
    seen: set[str] = set()
    for column in names:
        if not column or not column.isprintable() or column.casefold() in seen:
            raise QueryError(
                f"column {column!r} of table {name!r}: a name is printable text, and not there "
                "twice, whatever its case"
            )
        seen.add(column.casefold())
    return [_column(name, column, table[column]) for column in names]


def _column(table: str, name: str, given: pa.ChunkedArray) -> JoinedColumn:
    try:
        arrays = [plain_arrow(chunk) for chunk in given.chunks or [pa.array([], given.type)]]
        kind = _kind(arrays[0].type)
        return JoinedColumn(name, kind, [kind.accept(array) for array in arrays])
    except _MISFIT as error:
        raise QueryError(f"column {name!r} of table {table!r}: {error}") from error


def _kind(arrow: pa.DataType) -> ColumnType:
    """Return the type of metadata column that holds values of a plain Arrow type."""
    types = pa.types
    if types.is_timestamp(arrow):
        return column_type("timestamp[us, UTC]" if arrow.tz else "timestamp[us]")
    named = (
        (types.is_date, "date32"),
        (types.is_float16, "float32"),
        (is_text, "string"),
        (is_bytes, "binary"),
        (types.is_null, "string"),
        (types.is_nested, "json"),
    )
    return column_type(next((name for is_so, name in named if is_so(arrow)), arrow))


@contextmanager
def loaded(index: Index, tables: Sequence[Joined], statement: Statement) -> Iterator[None]:
    """Have tables inside the block, in which one statement is run.

    Nobody else sees them: the index's mutex must be held.

    Parameters
    ----------
    index
        A connection that is restricted to reading, and is again afterwards.
    """
    if not tables:
        yield
        return
    connection = index.connection
    with unrestricted(connection):
        connection.execute("BEGIN")
    try:
        with unrestricted(connection):
            candidates = dict(_made(connection, tables))
        needed = plan.searched_again_and_again(connection, statement)
        with unrestricted(connection):
            for name in candidates:
                connection.execute(f"DROP INDEX temp.{name}")
            for table in tables:
                _fill(index, table)
            for name in sorted(needed & set(candidates)):
                connection.execute(candidates[name])
        yield
    finally:
        with unrestricted(connection):
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _made(connection: sqlite3.Connection, tables: Sequence[Joined]) -> Iterator[tuple[str, str]]:
    """Make tables, empty, with an index on each column; return names and SQL of these indices.

    While a table is empty they cost nothing, and SQLite says which of them it would use.
    """
    for number, table in enumerate(tables):
        connection.execute(table.create())
        for position, column in enumerate(table.columns):
            name = f"sqlstore_{number}_{position}"
            sql = f"CREATE INDEX temp.{name} ON {quoted(table.name)} ({quoted(column.name)})"
            connection.execute(sql)
            yield name, sql


def _fill(index: Index, table: Joined) -> None:
    names = [quoted(column.name) for column in table.columns]
    for columns in table.rows():
        index.insert(f"temp.{quoted(table.name)}", names, columns)
