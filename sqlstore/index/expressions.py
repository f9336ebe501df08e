"""SQLAlchemy expressions over the metadata columns, run on the same driver connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, cast

from sqlalchemy import ColumnCollection, Connection, Select, create_engine, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.visitors import replacement_traverse

from sqlstore.errors import QueryError, SqlstoreError
from sqlstore.index.engine import Index
from sqlstore.index.query import Queries, ascending, ranked
from sqlstore.index.tables import records_table
from sqlstore.schema import Schema
from sqlstore.types import Ids


class _Columns(ReadOnlyColumnCollection[str, Any]):
    """The columns of a table, which says what there is when asked for another."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<sqlstore columns: {', '.join(self.keys())}>"

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            message = f"no metadata column is named {name!r}; they are {', '.join(self.keys())}"
            raise AttributeError(message) from None


class Expressions:
    """Compiles and runs SQLAlchemy criteria.

    Parameters
    ----------
    index
        The connection that `Queries` has set up.
    queries
        Keeps the temporary views, which expressions are run on.
    schema
        What the columns are.
    """

    def __init__(self, index: Index, queries: Queries, schema: Schema) -> None:
        self._index = index
        self._queries = queries
        self._table = records_table(schema)
        self._columns = _Columns(cast("Any", self._table.c))
        self._driver: sqlite3.Connection | None = None

    @property
    def columns(self) -> ColumnCollection[str, Any]:
        """Return the metadata columns and ``id``, by name."""
        return self._columns

    def ids_where(self, criteria: tuple[ColumnElement[bool], ...]) -> Ids:
        """Return the ids of the records that all criteria hold for, ascending."""
        own = self._own(criteria)
        return ascending(self._rows(lambda: select(self._table.c.id).where(*own)))

    def ranks(self, terms: tuple[ColumnElement[Any], ...], count: int) -> tuple[Ids, Ids]:
        """Return the ids of all records, and for each its rank in an order; ties share a rank.

        Parameters
        ----------
        count
            How many records there are.
        """
        own = self._own(terms)

        def statement() -> Select[Any]:
            return select(self._table.c.id, func.dense_rank().over(order_by=own))

        return ranked(self._rows(statement), count)

    def values(self, terms: Mapping[str, ColumnElement[Any]]) -> list[tuple[Any, ...]]:
        """Return a row per record: its id, and the values of expressions."""
        own = self._own(tuple(terms.values()))
        return self._rows(lambda: select(self._table.c.id, *own).order_by(self._table.c.id))

    def _own(self, given: tuple[Any, ...]) -> tuple[ColumnElement[Any], ...]:
        """Return expressions over the columns that there are now.

        They may have been made when the schema was another; columns are looked up by name.

        Raises
        ------
        QueryError
            These are no expressions, or a column is not there any more.
        """
        _check_are_expressions(given)

        def own(element: Any, **_: object) -> Any:
            table = getattr(element, "table", None)
            if table is None or table is self._table or table.name != self._table.name:
                return None  # stays as it is
            if element.name not in self._table.c:
                raise QueryError(f"there is no metadata column {element.name!r} any more")
            return self._table.c[element.name]

        return tuple(replacement_traverse(one, {}, own) for one in given)

    def _connect(self) -> Connection:
        """Return SQLAlchemy's view of the index's own connection, which a fork replaces."""
        driver = self._index.connection
        if driver is not self._driver:
            self._driver = driver
            self._engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
        return self._engine.connect()

    def _rows(self, statement: Callable[[], Select[Any]]) -> list[tuple[Any, ...]]:
        return self._index.reading(lambda _: self._run(statement))

    def _run(self, statement: Callable[[], Select[Any]]) -> list[tuple[Any, ...]]:
        self._queries.ready()
        try:
            with self._connect() as connection:
                return [tuple(row) for row in connection.execute(statement())]
        except DBAPIError as error:
            if error.orig is not None:
                raise error.orig from error  # what SQLite said: the index knows what it means
            raise
        except StatementError as error:  # a value that could not be bound
            if isinstance(error.orig, SqlstoreError):
                raise error.orig from error
            raise QueryError(str(error)) from error
        except SQLAlchemyError as error:
            raise QueryError(str(error)) from error


def _check_are_expressions(given: tuple[object, ...]) -> None:
    for one in given:
        if not isinstance(one, (ColumnElement, TextClause)):
            null = "; for NULL, compare with `store.c.name.is_(None)`"
            raise QueryError(
                f"expected SQL text or a SQLAlchemy expression, got {one!r}"
                f"{null if isinstance(one, bool) else ''}"
            )
