"""SQLAlchemy expressions over the metadata columns, as statements for the same connection."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from sqlalchemy import ColumnCollection, Select, and_, bindparam, func, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.visitors import replacement_traverse

from sqlstore.errors import QueryError
from sqlstore.index import sqltext
from sqlstore.index.statement import Statement, ids_as_json
from sqlstore.index.tables import records_table
from sqlstore.schema import Schema
from sqlstore.types import Ids, SqlValue

_NO_TEXT: Final = {"inf", "nan", "None"}
"""How SQLAlchemy writes infinity, NaN and what is bound as NULL; to SQLite these are names."""


class _Columns(ReadOnlyColumnCollection[str, Any]):
    """The columns of a table, which says what there is when asked for another."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            close = difflib.get_close_matches(name, self.keys(), n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            names = ", ".join(self.keys())
            message = f"no metadata column is named {name!r}{meant}; they are {names}"
            raise AttributeError(message) from None


class Expressions:
    """Compiles SQLAlchemy criteria.

    Parameters
    ----------
    schema
        What the columns are.
    """

    def __init__(self, schema: Schema) -> None:
        self._table = records_table(schema)
        self._columns = _Columns(cast("Any", self._table.c))
        self._dialect = sqlite.dialect()

    @property
    def columns(self) -> ColumnCollection[str, Any]:
        """Return the metadata columns and ``id``, by name."""
        return self._columns

    def condition(
        self, criteria: tuple[ColumnElement[bool], ...], among: Ids | None = None
    ) -> Statement:
        """Return the statement that asks which records all criteria hold for.

        Parameters
        ----------
        among
            Ask for these records only; for all by default.
        """
        return self._compiled(select(self._table.c.id), self._own(criteria), among)

    def text(self, criteria: Sequence[ColumnElement[bool]]) -> str | None:
        """Return criteria as one SQL text; None if there is none."""
        try:
            whole = and_(*self._own(tuple(criteria)))
            text = str(whole.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True}))
        except (SQLAlchemyError, NotImplementedError, QueryError):
            return None  # a bound value has no form as text, or a column is not there any more
        words = {token.text for token in sqltext.tokens(text) if token.kind == "word"}
        return None if words & _NO_TEXT else text

    def order(self, terms: tuple[ColumnElement[Any], ...], among: Ids | None = None) -> Statement:
        """Return the statement that asks for ids, and for the rank of each in an order."""
        rank = func.dense_rank().over(order_by=self._own(terms))
        return self._compiled(select(self._table.c.id, rank), (), among)

    def values(self, terms: tuple[ColumnElement[Any], ...], among: Ids | None = None) -> Statement:
        """Return the statement that asks for ids, and for what each expression gives."""
        return self._compiled(select(self._table.c.id, *self._own(terms)), (), among)

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

    def _compiled(
        self, asked: Select[Any], criteria: tuple[ColumnElement[bool], ...], among: Ids | None
    ) -> Statement:
        if among is not None:
            ids = func.json_each(bindparam(None, ids_as_json(among))).table_valued("value")
            asked = asked.where(
                self._table.c.id.in_(select(literal_column("value")).select_from(ids))
            )
        try:
            compiled = asked.where(*criteria).compile(dialect=self._dialect)
            return self._statement(compiled)
        except SQLAlchemyError as error:
            raise QueryError(str(error)) from error

    def _statement(self, compiled: SQLCompiler) -> Statement:
        """Return compiled SQL with the values that are bound to it, as SQLite stores them."""
        state = compiled.construct_expanded_state()
        bound: list[SqlValue] = []
        for name in state.positiontup or ():
            value = state.parameters[name]
            convert = state.processors.get(name)
            if convert is None and name in compiled.binds:
                kind = compiled.binds[name].type.dialect_impl(self._dialect)
                convert = kind.bind_processor(self._dialect)
            bound.append(cast("SqlValue", _converted(convert, value) if convert else value))
        sql = sqltext.strict_quotes(state.statement)
        return Statement(sql, bound, state.statement)


def _converted(convert: Callable[[Any], Any], value: object) -> Any:
    try:
        return convert(value)
    except QueryError:
        raise
    except (TypeError, ValueError) as error:  # of SQLAlchemy, for floats
        raise QueryError(f"cannot compare a column with {value!r}: {error}") from error


def _check_are_expressions(given: tuple[object, ...]) -> None:
    for one in given:
        if not isinstance(one, (ColumnElement, TextClause)):
            raise QueryError(
                f"expected SQL text or a SQLAlchemy expression, got {one!r}; for NULL, compare "
                "with `store.c.name.is_(None)`"
            )
