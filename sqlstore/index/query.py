"""Run what people ask: filters, orders and any SQL that only reads.

The connection cannot write, attach or load anything. Temporary views of the names ``records`` and
``record_locations`` hide records younger than the commit that the store was opened at.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from sqlstore.errors import QueryError
from sqlstore.index import guarded, joined, plan, sqltext
from sqlstore.index.engine import Index
from sqlstore.index.joined import Joined
from sqlstore.index.mistakes import Mistakes, unbound
from sqlstore.index.origins import Origins
from sqlstore.index.statement import AMONG, Statement, ids_as_json
from sqlstore.index.values import bindable_all
from sqlstore.schema import Column, Schema
from sqlstore.types import Ids, SqlValue

_WARM: Final = (
    # Table-valued functions declare themselves when first used, which counts as creating a table.
    "SELECT 1 FROM json_each('[]'), json_tree('[]')",
    "SELECT 1 FROM pragma_table_info('records'), pragma_index_list('records')",
    "SELECT 1 FROM pragma_index_info('records'), pragma_function_list LIMIT 1",
)
_TAKEN: Final = "SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view')"

T = TypeVar("T")


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
            guarded.restrict(connection)
            with guarded.unrestricted(connection):
                # With a plus, for SQLite would rather look at all these ids than use another index.
                for view, column in (("records", "+id"), ("record_locations", "record")):
                    connection.execute(f"DROP VIEW IF EXISTS temp.{view}")
                    connection.execute(
                        f"CREATE TEMP VIEW {view} AS "
                        f"SELECT * FROM main.{view} WHERE {column} < {self._next}"
                    )
                for warm in _WARM:
                    connection.execute(warm).fetchall()
            self._pinned = self._next

    def joined(self, tables: Mapping[str, Any] | None) -> list[Joined]:
        """Return the tables that somebody gives with a query.

        Raises
        ------
        QueryError
            One cannot be used.
        """
        if tables is None:
            return []
        taken = {str(name).casefold() for (name,) in self._index.rows(_TAKEN)}
        return joined.joined(tables, taken)

    def condition(
        self, text: str, parameters: Mapping[str, object], among: Ids | None = None
    ) -> Statement:
        """Return the statement that asks which records a condition holds for.

        Parameters
        ----------
        text
            An SQL expression over the metadata columns and ``id``, with ``:name`` for bound values.
        parameters
            The bound values.
        among
            Ask for these records only; for all by default.
        """
        # Without ORDER BY: for the sake of that, SQLite would rather scan than use an index. And of
        # the table itself: to compare every id as well takes SQLite a third of the time again.
        only = "" if among is None else f"{AMONG} AND "
        head = f"SELECT id FROM main.records WHERE {only}(\n"
        return self._of_text(head, text, "\n)", parameters, among)

    def order(
        self, text: str, parameters: Mapping[str, object], among: Ids | None = None
    ) -> Statement:
        """Return the statement that asks for ids, and for the rank of each in an order.

        Parameters
        ----------
        text
            What stands behind ORDER BY.
        """
        only = "" if among is None else f" WHERE {AMONG}"
        head = "SELECT id, DENSE_RANK() OVER (ORDER BY\n"
        return self._of_text(head, text, f"\n) FROM records{only}", parameters, among)

    def _of_text(
        self,
        head: str,
        text: str,
        tail: str,
        parameters: Mapping[str, object],
        among: Ids | None,
    ) -> Statement:
        sql = f"{head}{sqltext.expression(text)}{tail}"
        bound = self._bound(text, parameters)
        if among is not None:
            bound["sqlstore_ids"] = ids_as_json(among)
        return Statement(sql, bound, text, head)

    def _bound(self, text: str, parameters: Mapping[str, object]) -> dict[str, SqlValue]:
        used = sqltext.parameters(text)
        if unused := [name for name in parameters if name not in used]:
            raise QueryError(
                f"there is no :{unused[0]} in the SQL; keyword arguments are bound values, as in "
                '`where("label = :label", label="owl")`'
            )
        if not parameters:
            return {}
        columns = self._schema.columns.values()
        of_json = [column.name for column in columns if column.kind.name == "json"]
        as_json = sqltext.json_parameters(text, of_json)
        return bindable_all(parameters, (column.kind for column in columns), as_json)

    def integers(self, statement: Statement, tables: Sequence[Joined] = ()) -> Ids:
        """Return the rows of a statement whose columns are integers, one row after the other."""

        def read(driver: sqlite3.Connection) -> Ids:
            with contextlib.closing(driver.execute(statement.sql, statement.bound)) as cursor:
                return np.fromiter(itertools.chain.from_iterable(cursor), np.int64)

        return self._run(statement, tables, read)

    def rows(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, as SQLite has them."""

        def read(driver: sqlite3.Connection) -> list[tuple[Any, ...]]:
            with contextlib.closing(driver.execute(statement.sql, statement.bound)) as cursor:
                return _fetched(cursor)

        return self._run(statement, (), read)

    def ids(self, statement: Statement, tables: Sequence[Joined] = ()) -> Ids:
        """Return the ids that a statement of `condition` asks for, ascending."""
        ids = self.integers(statement, tables)
        if np.any(ids[1:] < ids[:-1]):
            ids.sort()
        return ids[: np.searchsorted(ids, self._next)]

    def plan(self, statement: Statement, tables: Sequence[Joined] = ()) -> plan.Plan:
        """Return how SQLite would run a statement."""
        created = [table.create() for table in tables]

        def read(_: sqlite3.Connection) -> plan.Plan:
            return plan.planned(self._index, self._schema, statement, created)

        empty = [table.emptied() for table in tables]
        return self._run(statement, empty, read)

    def table(
        self,
        sql: str,
        parameters: Mapping[str, object],
        tables: Sequence[Joined] = (),
    ) -> pa.Table:
        """Return the result of any statement that only reads."""
        strict = sqltext.strict_quotes(sql)
        statement = Statement(strict, self._bound(sql, parameters), sql)

        def read(driver: sqlite3.Connection) -> _Result:
            with contextlib.closing(driver.execute(strict, statement.bound)) as cursor:
                if cursor.description is None:
                    raise QueryError("this is not a statement that returns rows")
                return _Result([column[0] for column in cursor.description], _fetched(cursor))

        names, rows = self._run(statement, tables, read)
        plain = sqltext.without_parameters(strict)
        origins = self._origins.of(plain, tables) or [None] * len(names)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        arrays = [
            _computed(name, values) if origin is None else _declared(origin, values)
            for name, origin, values in zip(names, origins, columns, strict=True)
        ]
        return pa.Table.from_arrays(arrays, names=names)

    def _run(
        self,
        statement: Statement,
        tables: Sequence[Joined],
        read: Callable[[sqlite3.Connection], T],
    ) -> T:
        """Return what a function reads, which runs one statement."""

        def prepared(driver: sqlite3.Connection) -> T:
            self.ready()
            with (
                guarded.interruptible(driver),
                joined.loaded(self._index, tables, statement),
                self._explained(driver, statement, tables),
            ):
                return read(driver)

        return self._index.reading(prepared)

    @contextlib.contextmanager
    def _explained(
        self, driver: sqlite3.Connection, statement: Statement, tables: Sequence[Joined]
    ) -> Iterator[None]:
        """Say where a statement is wrong, if that is why it cannot be run."""
        try:
            yield
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.ProgrammingError):  # of the driver: SQLite was not asked
                missing = unbound(statement)
                if missing is not None:
                    raise missing from error
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
                raise
            names = [(table.name, *(c.name for c in table.columns)) for table in tables]
            mistakes = Mistakes(driver, self._schema, names)
            raise mistakes.error(statement, str(error)) from error


class _Result(NamedTuple):
    """The names of the columns of a result, and its rows."""

    names: list[str]
    rows: list[tuple[Any, ...]]


def _fetched(cursor: sqlite3.Cursor) -> list[tuple[Any, ...]]:
    try:
        return cursor.fetchall()
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):
            raise
        raise QueryError(f"{error}; CAST it to BLOB") from error


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
