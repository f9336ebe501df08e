"""Run what people ask: filters, orders and any SQL that only reads.

The connection cannot write, attach or load anything. Temporary views of the names ``records`` and
``record_locations`` hide records younger than the commit that the store was opened at.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sqlstore.errors import QueryError
from sqlstore.index.engine import Index
from sqlstore.index.origins import Origins
from sqlstore.index.values import bindable_all
from sqlstore.schema import Column, Schema
from sqlstore.types import Ids

_ALLOWED: Final = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_ALLOWED_PRAGMAS: Final = {
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "read_uncommitted",
}
_MOST_SHOWN: Final = 200
_WARM: Final = (
    # Table-valued functions declare themselves when first used, which counts as creating a table.
    "SELECT 1 FROM json_each('[]'), json_tree('[]')",
    "SELECT 1 FROM pragma_table_info('records'), pragma_index_list('records')",
)
_TOKENS: Final = re.compile(
    r"""'(?:[^']|'')*' | --[^\n]* | /\*.*?(?:\*/|\Z) | `(?:[^`]|``)*` | \[[^\]]*\]
    | (?P<quoted>"(?:[^"]|"")*") | (?P<bracket>[()]) | (?P<parameter>(?<!\w)[:@$]\w+)""",
    re.DOTALL | re.VERBOSE,
)


class Queries:
    """Runs queries on a connection for reading.

    Parameters
    ----------
    index
        The connection; it is set up so that it can only read.
    schema
        Gives result columns their declared types.
    next_record_id
        Records with this id or above are hidden.
    """

    def __init__(self, index: Index, schema: Schema, next_record_id: int) -> None:
        self._index = index
        self._schema = schema
        self._origins = Origins(index, schema)
        self._next = next_record_id
        self._pinned = -1
        index.when_opened.append(self._begin_anew)

    def _begin_anew(self, _: sqlite3.Connection) -> None:
        self._pinned = -1  # the new connection has no views yet

    def pin(self, next_record_id: int) -> None:
        """Hide records with this id or above from now on."""
        self._next = next_record_id

    def ready(self) -> None:
        """Bring the temporary views up to what `pin` said; the index's mutex must be held."""
        if self._pinned != self._next:
            self._prepare(self._index.connection)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with self._index.errors():
            connection.set_authorizer(None)
            for view, column in (("records", "id"), ("record_locations", "record")):
                connection.execute(f"DROP VIEW IF EXISTS temp.{view}")
                connection.execute(
                    f"CREATE TEMP VIEW {view} AS "
                    f"SELECT * FROM main.{view} WHERE {column} < {self._next}"
                )
            for warm in _WARM:
                connection.execute(warm).fetchall()
            connection.set_authorizer(_authorize)
            self._pinned = self._next

    def ids_where(self, condition: str, parameters: Mapping[str, object]) -> Ids:
        """Return the ids of the records that a condition holds for, ascending.

        Parameters
        ----------
        condition
            An SQL expression over the metadata columns and ``id``, with ``:name`` for bound values.
        parameters
            The bound values.

        Raises
        ------
        QueryError
            The condition is not valid.
        """
        # Without ORDER BY: for the sake of that, SQLite would rather scan than use an index. And of
        # the table itself: to compare every id as well takes SQLite a third of the time again.
        sql = f"SELECT id FROM main.records WHERE (\n{_expression(condition)}\n)"
        ids = ascending(self._run(sql, parameters, condition)[1])
        return ids[: np.searchsorted(ids, self._next)]

    def ranks(self, terms: str, parameters: Mapping[str, object], count: int) -> tuple[Ids, Ids]:
        """Return the ids of all records, and for each its rank in an order; ties share a rank.

        Parameters
        ----------
        terms
            What stands behind ORDER BY.
        count
            How many records there are.
        """
        order = _expression(terms)
        sql = f"SELECT id, DENSE_RANK() OVER (ORDER BY\n{order}\n) FROM records"
        rows = self._run(sql, parameters, terms)[1]
        return ranked(rows, count)

    def table(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        """Return the result of any statement that only reads."""
        strict = _strict_quotes(sql)
        names, rows = self._run(strict, parameters, sql)
        origins = self._origins.of(_without_parameters(strict)) or [None] * len(names)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        arrays = [
            _computed(name, values) if origin is None else _declared(origin, values)
            for name, origin, values in zip(names, origins, columns, strict=True)
        ]
        return pa.Table.from_arrays(arrays, names=names)

    def _run(
        self, sql: str, parameters: Mapping[str, object], asked: str
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        _refuse_unused(sql, parameters)
        bound = bindable_all(parameters, (c.kind for c in self._schema.columns.values()))

        def read(driver: sqlite3.Connection) -> tuple[list[str], list[tuple[Any, ...]]]:
            self.ready()
            cursor = driver.execute(sql, bound)
            if cursor.description is None:
                raise QueryError("this is not a statement that returns rows")
            return [column[0] for column in cursor.description], _fetched(cursor)

        try:
            return self._index.reading(read)
        except QueryError as error:
            hint = self._hint(error.message, asked)
            if hint is None:
                raise
            raise QueryError(f"{error.message}; {hint}") from error

    def _hint(self, message: str, asked: str) -> str | None:
        """Return what helps with what SQLite says of the SQL that somebody wrote."""
        if "no such column" in message:
            return self._column_hint(message)
        if "no such table" in message:
            return "the tables are `records` and `record_locations`"
        if message.startswith("cannot modify"):
            return "only statements that read are allowed here"
        if "syntax error" in message or "incomplete input" in message:
            more = "..." if len(asked) > _MOST_SHOWN else ""
            return f"the SQL is {asked[:_MOST_SHOWN] + more!r}"
        return None

    def _column_hint(self, message: str) -> str:
        columns = f"the metadata columns are id, {', '.join(self._schema.columns)}"
        for name in self._schema.fields:
            if message.casefold().endswith((f": {name.casefold()}", f".{name.casefold()}")):
                return (
                    f"{name!r} is a field, and SQL knows only the metadata; {columns}; the records "
                    "with a value of this field are those of `id IN (SELECT record FROM "
                    f"record_locations WHERE field = '{name}')`"
                )
        return f"{columns}; text goes in single quotes or is bound"


def _refuse_unused(sql: str, parameters: Mapping[str, object]) -> None:
    used = {match["parameter"][1:] for match in _TOKENS.finditer(sql) if match["parameter"]}
    if unused := [name for name in parameters if name not in used]:
        raise QueryError(
            f"there is no :{unused[0]} in the SQL; keyword arguments are bound values, as in "
            '`where("label = :label", label="owl")`'
        )


def ascending(rows: list[tuple[Any, ...]]) -> Ids:
    """Return ids in ascending order."""
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    if np.any(ids[1:] < ids[:-1]):
        ids.sort()
    return ids


def ranked(rows: list[tuple[Any, ...]], count: int) -> tuple[Ids, Ids]:
    """Return ids and ranks, of which there must be one for every record."""
    if len(rows) != count:
        raise QueryError("records cannot be ordered by something computed over all of them")
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _fetched(cursor: sqlite3.Cursor) -> list[tuple[Any, ...]]:
    try:
        return cursor.fetchall()
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):
            raise
        raise QueryError(f"{error}; CAST it to BLOB") from error


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Allow reading and nothing else; SQLite calls this while it compiles a statement."""
    if action in _ALLOWED:
        allowed = action != sqlite3.SQLITE_FUNCTION or second != "load_extension"
    else:
        allowed = action == sqlite3.SQLITE_PRAGMA and first in _ALLOWED_PRAGMAS
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _strict_quotes(sql: str) -> str:
    """Make a quoted name that is no column an error.

    SQLite takes ``"label"`` for the string 'label' when no column has that name, so a misspelt name
    silently compares with itself. In backquotes it is only ever a name.
    """

    def backquoted(match: re.Match[str]) -> str:
        quoted = match["quoted"]
        if quoted is None:
            return match[0]
        name = quoted[1:-1].replace('""', '"').replace("`", "``")
        return f"`{name}`"

    return _TOKENS.sub(backquoted, sql)


def _without_parameters(sql: str) -> str:
    return _TOKENS.sub(lambda match: "NULL" if match["parameter"] else match[0], sql)


def _expression(text: str) -> str:
    """Return the text of an expression, made sure that it does not close the brackets around it."""
    if not text.strip():
        raise QueryError("the expression is empty")
    depth = 0
    for match in _TOKENS.finditer(text):
        depth += {"(": 1, ")": -1}.get(match["bracket"], 0)
        if depth < 0:
            break
    if depth:
        raise QueryError(f"the brackets in {text!r} do not match")
    return _strict_quotes(text)


def _declared(column: Column, values: tuple[Any, ...]) -> pa.Array:
    """Return a result column that is a metadata column.

    What does not fit the declared type has not come through this library: it is shown as it is.
    """
    try:
        return column.kind.build(values)
    except (pa.ArrowException, TypeError, OverflowError):
        return _computed(column.name, values)


def _computed(name: str, values: tuple[Any, ...]) -> pa.Array:
    """Return a computed column: int64, double, string or binary, as SQLite has it."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = tuple(None if value is None else float(value) for value in values)
    elif len(kinds) > 1:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise QueryError(f"column {name!r} mixes {found}; CAST it to one type")
    return pa.array(values)
