"""Some records of a store, to be chosen from and put in order by SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from sqlstore.finder import all_bound
from sqlstore.index.plan import Plan
from sqlstore.selection import S_co
from sqlstore.tabular import Tables
from sqlstore.types import Ids

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

_Criterion: TypeAlias = "str | ColumnElement[Any]"


@dataclass(frozen=True, slots=True)
class Condition:
    """What some records of a store were chosen by.

    Attributes
    ----------
    sql
        A condition as SQL text; None for all records.
    parameters
        What is bound to it.
    """

    sql: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)

    def further(self, sql: str | None, parameters: Mapping[str, object]) -> Condition | None:
        """Return this condition and another one; None if they cannot be written as one text.

        Parameters
        ----------
        sql
            The other one; None if it has no text.
        """
        common = set(self.parameters) & set(parameters)
        if sql is None or any(self.parameters[name] is not parameters[name] for name in common):
            return None
        together = sql if self.sql is None else f"{_enclosed(self.sql)} AND {_enclosed(sql)}"
        return Condition(together, {**self.parameters, **parameters})


def _enclosed(sql: str) -> str:
    """Return a condition in brackets, whose end no comment takes with it."""
    return f"({sql}\n)" if "--" in sql else f"({sql})"


class Queried(Tables[S_co]):
    """Some records of a store, to be chosen from and put in order by SQL."""

    _condition: Condition | None = None
    """What the records were chosen by, of all of the store; None if it was not that alone."""

    def where(
        self,
        *criteria: _Criterion,
        params: Mapping[str, object] | None = None,
        tables: Mapping[str, Any] | None = None,
        **bound: object,
    ) -> S_co:
        """Return the records that a condition holds for, in the order of this view.

        Parameters
        ----------
        *criteria
            One SQL expression as text, over the metadata columns and ``id``, with ``:name`` for
            bound values; or SQLAlchemy expressions over `Store.c`, all of which must hold.
        params, **bound
            The bound values of the text.
        tables
            Tables of your own that the condition may ask, by name: a pyarrow Table or RecordBatch,
            a pandas or polars DataFrame, anything else with an Arrow stream such as another view,
            or a mapping of columns. They are there for this one query.

        Raises
        ------
        QueryError
            The condition cannot be run.
        """
        parameters = all_bound(params, bound)
        found = self._with(self._matching(criteria, parameters, tables))
        if tables is None and self._condition is not None:
            text = self._source.finder.text_of(criteria)
            # A view like this one, which the type of what `_with` returns does not say.
            cast("Queried[Any]", found)._condition = self._condition.further(text, parameters)
        return found

    def _matching(
        self,
        criteria: Sequence[_Criterion],
        parameters: Mapping[str, object],
        tables: Mapping[str, Any] | None,
    ) -> Ids:
        finder, ids = self._source.finder, self._record_ids()
        matching = finder.ids_where(criteria, parameters, tables, ids)
        if isinstance(ids, range) and ids.step == 1:
            first, last = np.searchsorted(matching, [ids.start, ids.stop])
            return matching[first:last]
        mask = np.zeros(self._source.next_record, bool)
        mask[matching] = True
        return self.ids[mask[self.ids]]

    def explain(
        self,
        *criteria: _Criterion,
        params: Mapping[str, object] | None = None,
        tables: Mapping[str, Any] | None = None,
        **bound: object,
    ) -> Plan:
        """Return how `where` would find its records, and which index would help; ``print`` it.

        Parameters
        ----------
        *criteria, params, tables, **bound
            As for `where`.

        Raises
        ------
        QueryError
            The condition cannot be run.
        """
        finder, ids = self._source.finder, self._record_ids()
        return finder.plan(criteria, all_bound(params, bound), tables, ids)

    def order_by(
        self,
        *terms: _Criterion,
        params: Mapping[str, object] | None = None,
        tables: Mapping[str, Any] | None = None,
        **bound: object,
    ) -> S_co:
        """Return the same records in another order; where that leaves a tie, this order stays.

        Parameters
        ----------
        *terms
            What stands behind ORDER BY, as one text such as ``"label, width DESC"``; or SQLAlchemy
            expressions.
        params, **bound
            The bound values of the text.
        tables
            Tables of your own, as for `where`.

        Raises
        ------
        QueryError
            The terms cannot be run.
        """
        finder, ids = self._source.finder, self._record_ids()
        ranks = finder.ranks(terms, all_bound(params, bound), tables, ids)
        return self._with(self.ids[np.argsort(ranks, kind="stable")])
