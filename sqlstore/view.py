"""The one selection type: ordered record ids, and which fields and columns to read of them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from sqlstore import edits, pickling, subsets
from sqlstore.contents import Contents
from sqlstore.finder import all_bound
from sqlstore.index.plan import Plan
from sqlstore.positions import Positions
from sqlstore.types import Ids

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

_Criterion: TypeAlias = "str | ColumnElement[Any]"


class View(Contents):
    """Some records of a store, in an order, with what to read of each.

    A view is immutable: every method that selects or orders returns a new one. It holds record ids,
    so records that are appended later do not appear in it. Positions in it run from 0, and may be
    negative as in a list.

    Made by `Store` and by the methods of views.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what another process needs to read the same records, without SQLite."""
        return pickling.view_again, (
            View,
            pickling.source_state(self._source),
            pickling.ids_state(self._source, self._record_ids()),
            self._names,
        )

    def __repr__(self) -> str:
        names = ", ".join(self._selected())
        count = f"{len(self)} record{'' if len(self) == 1 else 's'}"
        return f"<sqlstore.View of {count} of {self._source.root.name}: {names}>"

    def _with(self, ids: range | Ids) -> View:
        return View(self._source, ids, self._names)

    def take(self, positions: Positions) -> View:
        """Return the records at these positions, in this order; repeats are kept.

        Parameters
        ----------
        positions
            Integers, negative ones counted from the end, a slice, or a boolean mask as long as the
            view.

        Raises
        ------
        IndexError
            A position is not in the view.
        """
        return self._with(np.array(self._ids_at(positions)))  # the caller's own may change

    def where(
        self,
        *criteria: _Criterion,
        params: Mapping[str, object] | None = None,
        tables: Mapping[str, Any] | None = None,
        **bound: object,
    ) -> View:
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
        finder, ids = self._source.finder, self._record_ids()
        matching = finder.ids_where(criteria, all_bound(params, bound), tables, ids)
        if isinstance(ids, range) and ids.step == 1:
            first, last = np.searchsorted(matching, [ids.start, ids.stop])
            return self._with(matching[first:last])
        mask = np.zeros(self._source.next_record, bool)
        mask[matching] = True
        return self._with(self.ids[mask[self.ids]])

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
    ) -> View:
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

    def limit(self, count: int) -> View:
        """Return the first ``count`` records, or all if there are not as many."""
        if operator.index(count) < 0:
            raise ValueError(f"a limit of {count} records")
        return self._with(self._record_ids()[:count])

    def select(self, *names: str) -> View:
        """Return the same records with only these fields and metadata columns.

        ``"id"`` makes the record id part of each record.

        Raises
        ------
        UnknownNameError
            There is no such field or column, or this view does not select it.
        """
        if not all(isinstance(name, str) for name in names):
            raise TypeError('give the names one by one: select("image", "label")')
        self._check_selected(names)
        return View(self._source, self._record_ids(), names)

    @overload
    def __getitem__(self, key: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> View: ...
    def __getitem__(self, key: SupportsIndex | slice | ArrayLike) -> dict[str, Any] | View:
        """Return the record at a position, or the view of several positions."""
        if type(key) is int:  # the usual case; asking for SupportsIndex takes microseconds
            return self._record(self._id_at(key))
        if isinstance(key, slice):
            return self._with(self._record_ids()[key])
        if isinstance(key, (bool, np.bool_, str)):
            raise TypeError(f"a position is an integer, a slice, a list or a mask, not {key!r}")
        # Arrays and tensors have `__index__`, whatever their shape.
        if isinstance(key, SupportsIndex) and not getattr(key, "ndim", 0):
            return self._record(self._id_at(key))
        return self.take(cast("ArrayLike", key))

    def update(self, **values: Any) -> None:
        """Give metadata columns of these records other values, in one commit.

        Parameters
        ----------
        **values
            By column name: one value for all records; an array with a value for each of them, in
            the order of the view (NumPy, Arrow, pandas or polars); or a SQLAlchemy expression over
            `Store.c`, which SQLite computes for each record.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        UnknownNameError
            There is no such column.
        SchemaError
            A value does not fit its column, or the view has a record twice. Nothing is changed.
        DuplicateKeyError
            Another record has one of the new keys. Nothing is changed.
        RecordNotFoundError
            A record was deleted. Nothing is changed.
        """
        edits.update(self._source, self.ids, values)

    def delete(self) -> None:
        """Delete these records, in one commit.

        Their ids are never used again. Their bytes stay in the chunk files.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        RecordNotFoundError
            A record was deleted before. Nothing is changed.
        """
        edits.delete(self._source, self.ids)

    def save(self, name: str, *, note: str | None = None) -> None:
        """Save these records as a named subset, which later edits and appends do not change.

        Parameters
        ----------
        name
            Printable text; no other subset has it.
        note
            What to say of it.

        Raises
        ------
        ReadOnlyError
            The store was opened for reading.
        SubsetExistsError
            There is a subset of that name.
        RecordNotFoundError
            A record was deleted.
        """
        subsets.save(self._source, self.ids, name, note)

    def content_fingerprint(self) -> str:
        """Return the SHA-256, in hexadecimal digits, of what these records are, in their order.

        It covers the metadata, and the checksums of what is stored of every field: so it changes
        with every value, with the compression, and with the columns that there are.

        Raises
        ------
        RecordNotFoundError
            A record was deleted.
        """
        return subsets.content_fingerprint(self._source, self.ids)

    def batches(self, size: int) -> Iterator[View]:
        """Return views of up to ``size`` consecutive records, the last of what is left."""
        if operator.index(size) < 1:
            raise ValueError(f"batches of {size} records")
        ids = self._record_ids()
        return (self._with(ids[start : start + size]) for start in range(0, len(ids), size))
