"""Some records of a store, to be chosen from and put in order by SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from sqlstore.finder import Finder, all_bound
from sqlstore.index.plan import Plan
from sqlstore.selection import S_co
from sqlstore.tabular import Tables
from sqlstore.types import Ids

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

_Criterion: TypeAlias = "str | ColumnElement[Any]"


@dataclass(frozen=True, slots=True)
class Condition:
    """What some records of a store were chosen by: conditions that all hold.

    Attributes
    ----------
    parts
        Criteria as `Queried.where` takes them, each with what is bound to them; none for all
        records. They are written as text only when somebody asks for that.
    """

    parts: tuple[tuple[Sequence[_Criterion], Mapping[str, object]], ...] = ()

    def written(self, finder: Finder) -> tuple[str, dict[str, object]] | None:
        """Return one SQL text and what is bound to it; None for all records, or if there is none.

        Parameters
        ----------
        finder
            Writes expressions as text.
        """
        texts: list[str] = []
        bound: dict[str, object] = {}
        for criteria, parameters in self.parts:
            text = finder.text_of(criteria)
            common = bound.keys() & parameters.keys()
            if text is None or any(bound[name] is not parameters[name] for name in common):
                return None
            texts.append(text)
            bound |= parameters
        if not texts:
            return None
        return (texts[0] if len(texts) == 1 else " AND ".join(map(_enclosed, texts))), bound


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
            parts = *self._condition.parts, (criteria, parameters)
            # A view like this one, which the type of what `_with` returns does not say.
            cast("Queried[Any]", found)._condition = Condition(parts)
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
