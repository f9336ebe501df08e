"""The one selection type: ordered record ids, and which fields and columns to read of them."""

from __future__ import annotations

import io
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, cast, overload

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sqlstore import pickling
from sqlstore.arrow import int64_array
from sqlstore.errors import (
    CorruptCacheError,
    MissingChunkError,
    MissingPackageError,
    UnknownNameError,
)
from sqlstore.finder import all_bound
from sqlstore.positions import Positions, as_array, ids_at
from sqlstore.reading.decode import decoded, stacked
from sqlstore.reading.file import ValueFile
from sqlstore.source import Raw, Source
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
        self._set_ids(ids, source.raws)
        self._names = names
        schema = source.schema
        self._fields = [f for name, f in schema.fields.items() if names is None or name in names]
        self._columns = [c for name, c in schema.columns.items() if names is None or name in names]

    def _set_ids(self, ids: range | Ids, raws: Mapping[str, Raw]) -> None:
        # What `raw` needs, made once: it is called a million times a second. And set at once, as
        # other threads may read meanwhile.
        self._reads = raws, ids if isinstance(ids, range) else ids.data, ids

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what another process needs to read the same records, without SQLite."""
        return pickling.view_again, (
            View,
            pickling.source_state(self._source),
            pickling.ids_state(self._source, self._record_ids()),
            self._names,
        )

    # Which records

    @property
    def ids(self) -> Ids:
        """Return the record ids, in the order of the view: int64, read-only."""
        ids = as_array(self._record_ids()).view()
        ids.flags.writeable = False
        return ids

    def _record_ids(self) -> range | Ids:
        return self._reads[2]

    def __len__(self) -> int:
        return len(self._record_ids())

    def _selected(self) -> list[str]:
        return [f.name for f in self._fields] + [c.name for c in self._columns]

    def __repr__(self) -> str:
        names = ", ".join(self._selected())
        return f"<sqlstore.View of {len(self)} records of {self._source.root.name}: {names}>"

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

    def _ids_at(self, positions: Positions) -> Ids:
        return ids_at(self._record_ids(), positions)

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
        matching = self._source.finder.ids_where(criteria, all_bound(params, bound))
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
        ranks = self._source.finder.ranks(terms, all_bound(params, bound))
        ids = self.ids
        return self._with(ids[np.argsort(ranks[ids], kind="stable")])

    def limit(self, count: int) -> View:
        """Return the first ``count`` records, or all if there are not as many."""
        if operator.index(count) < 0:
            raise ValueError(f"a limit of {count} records")
        return self._with(self._record_ids()[:count])

    def select(self, *names: str) -> View:
        """Return the same records with only these fields and metadata columns.

        Raises
        ------
        UnknownNameError
            There is no such field or column, or this view does not select it.
        """
        if not all(isinstance(name, str) for name in names):
            raise TypeError('give the names one by one: select("image", "label")')
        selected, schema = self._selected(), self._source.schema
        if unknown := [name for name in names if name not in schema.names]:
            raise schema.unknown(unknown)
        if others := [repr(name) for name in names if name not in selected]:
            raise UnknownNameError(
                f"not among what this view selects: {', '.join(others)}; it selects "
                f"{', '.join(selected) or 'nothing'}"
            )
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
        if isinstance(key, (bool, np.bool_, str)):
            raise TypeError(f"a position is an integer, a slice, a list or a mask, not {key!r}")
        # Arrays and tensors have `__index__`, whatever their shape.
        if isinstance(key, SupportsIndex) and not getattr(key, "ndim", 0):
            return self._fetch([self._id_at(key)])[0]
        return self.take(cast("ArrayLike", key))

    def _id_at(self, position: SupportsIndex) -> int:
        if isinstance(position, (bool, np.bool_)):
            raise TypeError(f"a position is an integer, not {position!r}")
        index = operator.index(position)
        try:
            return int(self._record_ids()[index])
        except (IndexError, OverflowError):
            raise IndexError(f"position {index} in a view of {len(self)} records") from None

    def _fetch(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return records by id."""
        values: list[Sequence[object]]
        values = [decoded(self._source, ids, field) for field in self._fields]
        metadata = self._source.metadata(_as_range(ids), self._columns)
        for column, arrays in zip(self._columns, metadata, strict=True):
            values.append([one for array in arrays for one in column.kind.to_python(array)])
        if not values:
            return [{} for _ in ids]
        names = self._selected()
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        ids = self._record_ids()
        for start in range(0, len(ids), _ITERATION_STEP):
            yield from self._fetch([int(i) for i in ids[start : start + _ITERATION_STEP]])

    def fetch(self, positions: Positions) -> list[dict[str, Any]]:
        """Return the records at these positions, in this order, repeats kept."""
        return self._fetch(self._ids_at(positions).tolist())

    def __getitems__(self, positions: list[int]) -> list[dict[str, Any]]:
        """Return the same as `fetch`: what a PyTorch DataLoader calls for a batch."""
        return self.fetch(positions)

    def batches(self, size: int) -> Iterator[View]:
        """Return views of up to ``size`` consecutive records, the last of what is left."""
        if operator.index(size) < 1:
            raise ValueError(f"batches of {size} records")
        ids = self._record_ids()
        return (self._with(ids[start : start + size]) for start in range(0, len(ids), size))

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
        try:
            raws, ids, _ = self._reads
            return raws[field](ids[position])
        except (LookupError, OverflowError, TypeError, CorruptCacheError, MissingChunkError):
            return self._raw(position, field)

    def _raw(self, position: SupportsIndex, field: str) -> bytes | None:
        """Do what `raw` does when it is not prepared for it, or finds something wrong."""
        declared = self._source.schema.field(field)
        self._source.check_open()
        raws = self._source.raws  # before the ids, which may be newer but not older
        ids = self._record_ids()
        value = self._source.raw(self._id_at(position), declared)
        self._set_ids(ids, raws)
        return value

    def blobs(
        self, field: str, positions: Positions | None = None, *, copy: bool = True
    ) -> pa.Array:
        """Return the values of a field, decompressed and not decoded, as one Arrow array.

        Parameters
        ----------
        field
            The name of the field.
        positions
            Which records, in this order, repeats kept; all by default.
        copy
            False gives views of the chunks themselves: not a byte of values that are stored
            uncompressed is copied. They keep whole chunk files mapped, so they are not for keeping;
            and copy them before they leave the process, as a whole chunk would go with them.

        Returns
        -------
        pyarrow.LargeBinaryArray or pyarrow.BinaryViewArray
            Null where a record has no value.

        Raises
        ------
        ChecksumError
            The bytes are not what was written.
        """
        ids = self._ids_of(positions)
        bodies = self._source.bodies(ids, self._source.schema.field(field))
        return bodies.copied() if copy else bodies.views()

    def stack(self, field: str, positions: Positions | None = None) -> NDArray[Any]:
        """Return the arrays or images of a field as one array, of shape ``(n, ...)``.

        Parameters
        ----------
        positions
            Which records, in this order; all by default.

        Raises
        ------
        SchemaError
            They differ in shape or dtype, one is missing, or they are no arrays.
        """
        return stacked(self._source, self._ids_of(positions), self._source.schema.field(field))

    def open(self, position: SupportsIndex, field: str) -> io.BufferedReader:
        """Return a value as a file to read from, decompressed and not decoded.

        Nothing is read before it is asked for. The first read checks the value as a whole, unless
        that has been done, or the store was opened with ``verify="never"``; from then on only what
        is asked for is read. A compressed value is decompressed as a whole.

        Raises
        ------
        RecordNotFoundError
            The record has no value of this field.
        """
        record, declared = self._id_at(position), self._source.schema.field(field)
        return io.BufferedReader(ValueFile(self._source, record, declared))

    def _ids_of(self, positions: Positions | None) -> Ids:
        if positions is None:
            return as_array(self._record_ids())
        return self._ids_at(positions)

    # The metadata, as a table

    @property
    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema of `to_arrow`."""
        schema = self._source.schema.arrow
        return pa.schema([schema.field("id"), *(schema.field(c.name) for c in self._columns)])

    def to_arrow(self) -> pa.Table:
        """Return the record ids and the metadata as an Arrow table of the declared types."""
        ids = self._record_ids()
        metadata = self._source.metadata(ids, self._columns)
        columns = [
            pa.chunked_array(arrays, column.kind.arrow)
            for column, arrays in zip(self._columns, metadata, strict=True)
        ]
        return pa.Table.from_arrays(
            [int64_array(as_array(ids)), *columns], schema=self.arrow_schema
        )

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
