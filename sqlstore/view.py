"""The one selection type: ordered record ids, and which fields and columns to read of them."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, cast, overload

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from sqlstore.errors import MissingPackageError
from sqlstore.source import Source
from sqlstore.types import Ids

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.sql import ColumnElement

_Criterion: TypeAlias = "str | ColumnElement[Any]"
_ITERATION_STEP = 16  # payloads may be large: few are held at once


class View:
    """Some records of a store, in an order, with what to read of each.

    A view is immutable: every method that selects or orders returns a new one. It holds record ids,
    so records that are appended later do not appear in it. Positions in it run from 0, and may be
    negative as in a list.

    Made by `Store` and by the methods of views.
    """

    def __init__(
        self, source: Source, ids: range | Ids, names: Sequence[str] | None = None
    ) -> None:
        self._source = source
        self._ids = ids
        self._names = names
        schema = source.schema
        self._fields = [f for name, f in schema.fields.items() if names is None or name in names]
        self._columns = [c for name, c in schema.columns.items() if names is None or name in names]

    # Which records

    @property
    def ids(self) -> Ids:
        """Return the record ids, in the order of the view: int64, read-only."""
        ids = np.asarray(self._record_ids(), np.int64)
        ids.flags.writeable = False
        return ids

    def _record_ids(self) -> range | Ids:
        return self._ids

    def __len__(self) -> int:
        return len(self._record_ids())

    def _selected(self) -> list[str]:
        return [f.name for f in self._fields] + [c.name for c in self._columns]

    def __repr__(self) -> str:
        names = ", ".join(self._selected())
        return f"<sqlstore.View of {len(self)} records of {self._source.root.name}: {names}>"

    def _with(self, ids: range | Ids) -> View:
        return View(self._source, ids, self._names)

    def take(self, positions: ArrayLike) -> View:
        """Return the records at these positions, in this order; repeats are kept.

        Parameters
        ----------
        positions
            Integers, negative ones counted from the end, or a boolean mask as long as the view.

        Raises
        ------
        IndexError
            A position is not in the view.
        """
        index = np.asarray(positions)
        if isinstance(positions, str) or index.dtype == object:
            raise IndexError(f"not positions: {positions!r}; choose records by `where`")
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iub"):
            raise IndexError(
                f"expected a list of integers or a mask, got {index.dtype} of shape {index.shape}"
            )
        if index.dtype.kind == "u" and index.size and index.max() >= len(self):
            raise IndexError(f"position {index.max()} in a view of {len(self)} records")
        if index.dtype == np.bool_ and len(index) != len(self):
            raise IndexError(f"a mask of length {len(index)} for {len(self)} records")
        return self._with(self.ids[index.astype(np.int64) if not index.size else index])

    def where(
        self,
        *criteria: _Criterion,
        params: Mapping[str, object] | None = None,
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

        Raises
        ------
        QueryError
            The condition cannot be run.
        """
        matching = self._source.ids_where(criteria, {**(params or {}), **bound})
        ids = self._record_ids()
        if isinstance(ids, range) and ids.step == 1:
            first, last = np.searchsorted(matching, [ids.start, ids.stop])
            return self._with(matching[first:last])
        mask = np.zeros(self._source.next_record, bool)
        mask[matching] = True
        return self._with(self.ids[mask[self.ids]])

    def order_by(
        self,
        *terms: _Criterion,
        params: Mapping[str, object] | None = None,
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
        """
        ranks = self._source.ranks(terms, {**(params or {}), **bound})
        ids = self.ids
        return self._with(ids[np.argsort(ranks[ids], kind="stable")])

    def limit(self, count: int) -> View:
        """Return the first ``count`` records, or all if there are not as many."""
        if count < 0:
            raise ValueError(f"a limit of {count} records")
        return self._with(self._record_ids()[:count])

    def select(self, *names: str) -> View:
        """Return the same records with only these fields and metadata columns.

        Raises
        ------
        UnknownNameError
            There is no such field or column.
        """
        available = self._selected()
        if unknown := [name for name in names if name not in available]:
            raise self._source.schema.unknown(unknown)
        return View(self._source, self._record_ids(), names)

    # What they are

    @overload
    def __getitem__(self, key: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> View: ...
    def __getitem__(self, key: SupportsIndex | slice | ArrayLike) -> dict[str, Any] | View:
        """Return the record at a position, or the view of several positions."""
        if type(key) is int:  # the usual case; asking for SupportsIndex takes microseconds
            return self._fetch([self._id_at(key)])[0]
        if isinstance(key, slice):
            return self._with(self._record_ids()[key])
        if isinstance(key, SupportsIndex) and not isinstance(key, (np.ndarray, bool, np.bool_)):
            return self._fetch([self._id_at(key)])[0]
        if isinstance(key, (bool, np.bool_, str)):
            raise TypeError(f"a position is an integer, a slice, a list or a mask, not {key!r}")
        return self.take(cast("ArrayLike", key))

    def _id_at(self, position: SupportsIndex) -> int:
        index = operator.index(position)
        try:
            return int(self._record_ids()[index])
        except (IndexError, OverflowError):
            raise IndexError(f"position {index} in a view of {len(self)} records") from None

    def _fetch(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return records by id."""
        metadata = self._source.metadata(_as_range(ids), self._columns) if self._columns else []
        values = [
            column.kind.to_python(chunked.combine_chunks())
            for column, chunked in zip(self._columns, metadata, strict=True)
        ]
        found = []
        for row, record in enumerate(ids):
            entry = {field.name: self._source.decoded(record, field) for field in self._fields}
            entry.update((c.name, v[row]) for c, v in zip(self._columns, values, strict=True))
            found.append(entry)
        return found

    def __iter__(self) -> Iterator[dict[str, Any]]:
        ids = self._record_ids()
        for start in range(0, len(ids), _ITERATION_STEP):
            yield from self._fetch([int(i) for i in ids[start : start + _ITERATION_STEP]])

    def fetch(self, positions: ArrayLike) -> list[dict[str, Any]]:
        """Return the records at these positions, in this order, repeats kept."""
        return self._fetch(self.take(positions).ids.tolist())

    def raw(self, position: SupportsIndex, field: str) -> bytes | None:
        """Return a value as its encoding made it, decompressed and not decoded.

        Returns
        -------
        bytes or None
            None if the record has no value of this field.

        Raises
        ------
        ChecksumError
            The bytes are not what was written.
        """
        declared = self._source.schema.field(field)
        data = self._source.stored(self._id_at(position), declared)
        return None if data is None else bytes(data)

    # The metadata, as a table

    @property
    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema of `to_arrow`."""
        schema = self._source.schema.arrow
        return pa.schema([schema.field("id"), *(schema.field(c.name) for c in self._columns)])

    def to_arrow(self) -> pa.Table:
        """Return the record ids and the metadata as an Arrow table of the declared types."""
        ids = self._record_ids()
        columns = self._source.metadata(ids, self._columns)
        array = pa.array(np.asarray(ids, np.int64))
        return pa.Table.from_arrays([array, *columns], schema=self.arrow_schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return the record ids and the metadata as a pandas DataFrame.

        Raises
        ------
        MissingPackageError
            pandas is not installed.
        """
        try:
            frame: pd.DataFrame = self.to_arrow().to_pandas()
        except ImportError as error:
            raise MissingPackageError(
                "this needs pandas: pip install 'sqlstore[pandas]'"
            ) from error
        return frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the metadata as an Arrow stream, so that ``pyarrow.table(view)`` works."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def _as_range(ids: Sequence[int]) -> range | Ids:
    """Return consecutive ids as a range, whose metadata is a slice and needs no gathering."""
    if not ids:
        return range(0)
    first, count = ids[0], len(ids)
    if ids[-1] == first + count - 1 and all(a + 1 == b for a, b in itertools.pairwise(ids)):
        return range(first, first + count)
    return np.asarray(ids, np.int64)
