"""SQLAlchemy expressions over the metadata columns, run on the same driver connection."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np
from sqlalchemy import ColumnCollection, Connection, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql import ColumnElement

from sqlstore.errors import QueryError, SqlstoreError
from sqlstore.index.engine import Index
from sqlstore.index.tables import records_table
from sqlstore.schema import Schema
from sqlstore.types import Ids


class Expressions:
    """Compiles and runs SQLAlchemy criteria.

    Parameters
    ----------
    index
        The connection that `Queries` has set up.
    schema
        What the columns are.
    """

    def __init__(self, index: Index, schema: Schema) -> None:
        self._index = index
        self._table = records_table(schema)
        self._driver: sqlite3.Connection | None = None

    @property
    def columns(self) -> ColumnCollection[str, Any]:
        """Return the metadata columns and ``id``, by name."""
        return self._table.c

    def ids_where(self, criteria: tuple[ColumnElement[bool], ...]) -> Ids:
        """Return the ids of the records that all criteria hold for, ascending."""
        statement = select(self._table.c.id).where(*criteria).order_by(self._table.c.id)
        return np.array([row[0] for row in self._rows(statement)], np.int64)

    def ranks(self, terms: tuple[ColumnElement[Any], ...]) -> tuple[Ids, Ids]:
        """Return the ids of all records, and for each its rank in an order; ties share a rank."""
        rank = func.dense_rank().over(order_by=terms)
        rows = np.array(self._rows(select(self._table.c.id, rank)), np.int64).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]

    def _connect(self) -> Connection:
        """Return SQLAlchemy's view of the index's own connection, which a fork replaces."""
        driver = self._index.connection
        if driver is not self._driver:
            self._driver = driver
            self._engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
        return self._engine.connect()

    def _rows(self, statement: Any) -> list[Any]:
        try:
            with self._index.mutex, self._connect() as connection:
                return [tuple(row) for row in connection.execute(statement)]
        except SqlstoreError:
            raise
        except SQLAlchemyError as error:
            cause = error.__cause__
            raise QueryError(str(cause if cause is not None else error)) from error
