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

from sqlstore.errors import CorruptIndexError, QueryError
from sqlstore.index.engine import Index
from sqlstore.index.values import bindable_all
from sqlstore.schema import Schema
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
_TOKENS: Final = re.compile(
    r"""'(?:[^']|'')*' | --[^\n]* | /\*.*?(?:\*/|\Z) | `(?:[^`]|``)*` | \[[^\]]*\]
    | (?P<quoted>"(?:[^"]|"")*") | (?P<bracket>[()]) | (?P<parameter>(?<!\w)[:@$]\w+)""",
    re.DOTALL | re.VERBOSE,
)


_RESULT: Final = "sqlstore_result"


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
        self._next = next_record_id
        index.when_opened.append(self._prepare)
        self._prepare(index.connection)

    def pin(self, next_record_id: int) -> None:
        """Hide records with this id or above from now on."""
        if next_record_id != self._next:
            self._next = next_record_id
            with self._index.mutex:
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
            connection.set_authorizer(_authorize)

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
        sql = f"SELECT id FROM records WHERE (\n{_expression(condition)}\n) ORDER BY id"
        return self._ids(sql, parameters)

    def ranks(self, terms: str, parameters: Mapping[str, object]) -> tuple[Ids, Ids]:
        """Return the ids of all records, and for each its rank in an order; ties share a rank.

        Parameters
        ----------
        terms
            What stands behind ORDER BY.
        """
        order = _expression(terms)
        rows = self._run(
            f"SELECT id, DENSE_RANK() OVER (ORDER BY\n{order}\n) FROM records", parameters
        )[1]
        table = np.array(rows, np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def table(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        """Return the result of any statement that only reads."""
        strict = _strict_quotes(sql)
        names, rows = self._run(strict, parameters)
        plain = self._plain_columns(strict)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        arrays = [
            self._declared(name, values) if position in plain else _column(name, values)
            for position, (name, values) in enumerate(zip(names, columns, strict=True))
        ]
        return pa.Table.from_arrays(arrays, names=names)

    def _plain_columns(self, sql: str) -> set[int]:
        """Return which result columns are metadata columns, and not computed from them.

        SQLite tells it of a view: there, a column that is computed has no type. Parameters are not
        allowed in a view; NULL in their place changes no type.
        """
        index = self._index
        without = _TOKENS.sub(lambda match: "NULL" if match["parameter"] else match[0], sql)
        with index.mutex:
            connection = index.connection
            connection.set_authorizer(None)
            try:
                connection.execute(f"CREATE TEMP VIEW {_RESULT} AS {without}")
                described = connection.execute(f"PRAGMA table_info({_RESULT})").fetchall()
                connection.execute(f"DROP VIEW temp.{_RESULT}")
            except (sqlite3.Error, sqlite3.Warning):  # such as EXPLAIN: not a statement for a view
                described = []
            finally:
                connection.set_authorizer(_authorize)
        return {
            position
            for position, name, storage, *_ in described
            if storage and name in self._schema.columns
        }

    def _declared(self, name: str, values: tuple[Any, ...]) -> pa.Array:
        try:
            return self._schema.columns[name].kind.build(values)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise CorruptIndexError(
                f"column {name} of the index holds a value that was never committed: {error}"
            ) from error

    def _ids(self, sql: str, parameters: Mapping[str, object]) -> Ids:
        rows = self._run(sql, parameters)[1]
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def _run(
        self, sql: str, parameters: Mapping[str, object]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        with self._index.mutex, self._index.errors():
            cursor = self._index.connection.execute(sql, bindable_all(parameters))
            if cursor.description is None:
                raise QueryError("this is not a statement that returns rows")
            return [column[0] for column in cursor.description], cursor.fetchall()


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


def _column(name: str, values: tuple[Any, ...]) -> pa.Array:
    """Return a computed column: int64, double, string or binary, as SQLite has it."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = tuple(None if value is None else float(value) for value in values)
    elif len(kinds) > 1:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise QueryError(f"column {name!r} mixes {found}; CAST it to one type")
    return pa.array(values)
