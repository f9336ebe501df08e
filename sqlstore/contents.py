"""What some records are: their values one by one and in batches."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.attached import Raw
from sqlstore.errors import (
    CorruptCacheError,
    MissingChunkError,
    SchemaError,
    UnknownNameError,
)
from sqlstore.positions import Positions, as_array, index_of
from sqlstore.reading import masks
from sqlstore.reading.decode import decoded, stacked, value
from sqlstore.reading.file import ValueFile
from sqlstore.reading.masks import Items, Mask
from sqlstore.schema import ID, Column, Field, Schema
from sqlstore.selection import S_co, Selection
from sqlstore.source import Source
from sqlstore.types import Ids


class Contents(Selection[S_co]):
    """Some records of a store, to be read; `View` says how they are chosen."""

    def __init__(
        self, source: Source, ids: range | Ids, names: Sequence[str] | None = None
    ) -> None:
        self._source = source
        self._set_ids(ids, source.raws)
        self._names = names
        self._gives_id = names is not None and ID in names
        self._schema: Schema | None = None

    def _set_ids(self, ids: range | Ids, raws: Mapping[str, Raw]) -> None:
        # What `raw` needs, made once: it is called a million times a second. And set at once, as
        # other threads may read meanwhile.
        self._reads = raws, ids if isinstance(ids, range) else ids.data, ids

    @property
    def _fields(self) -> list[Field]:
        self._follow_schema()
        return self._selected_fields

    @property
    def _columns(self) -> list[Column]:
        self._follow_schema()
        return self._selected_columns

    def _follow_schema(self) -> None:
        """Select of the schema as it is now: columns come and go, and are renamed."""
        schema, names = self._source.schema, self._names
        if schema is not self._schema:
            if gone := [name for name in names or () if name not in {ID, *schema.names}]:
                raise schema.unknown(gone)
            fields, columns = schema.fields.items(), schema.columns.items()
            self._selected_fields = [f for n, f in fields if names is None or n in names]
            self._selected_columns = [c for n, c in columns if names is None or n in names]
            self._schema = schema

    @property
    def ids(self) -> Ids:
        """Return the record ids, in the order of the view: int64, read-only."""
        ids = as_array(self._record_ids()).view()
        ids.flags.writeable = False
        return ids

    def _record_ids(self) -> range | Ids:
        return self._reads[2]

    def _selected(self) -> list[str]:
        names = [f.name for f in self._fields] + [c.name for c in self._columns]
        return [ID, *names] if self._gives_id else names

    def _record(self, record: int) -> dict[str, Any]:
        """Return one record by its id."""
        source = self._source
        found: dict[str, Any] = {ID: record} if self._gives_id else {}
        for field in self._fields:
            found[field.name] = value(source, record, field)
        metadata = source.metadata(range(record, record + 1), self._columns)
        for column, (array,) in zip(self._columns, metadata, strict=True):
            (found[column.name],) = column.kind.to_python(array)
        return found

    def _fetch(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return records by id."""
        values: list[Sequence[object]] = [ids] if self._gives_id else []
        values += [decoded(self._source, ids, field) for field in self._fields]
        metadata = self._source.metadata(_as_range(ids), self._columns)
        for column, arrays in zip(self._columns, metadata, strict=True):
            values.append([one for array in arrays for one in column.kind.to_python(array)])
        if not values:
            return [{} for _ in ids]
        names = self._selected()
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    def read(self, position: SupportsIndex, mask: Mask) -> dict[str, Any]:
        """Return parts of one record.

        Parameters
        ----------
        mask
            What to read, by field, metadata column and ``"id"``: True for all of it; of a sequence
            also a slice, or the numbers of some items, such as a range. Only those items are read.

        Returns
        -------
        dict
            What the mask names, in its order.

        Raises
        ------
        IndexError
            An item is not in the sequence.
        """
        record = self._id_at(position)
        if not isinstance(mask, Mapping):
            raise TypeError(f'a mask is a mapping such as {{"frames": range(10)}}, not {mask!r}')
        self._check_selected(mask)
        return masks.masked(self._source, record, mask)

    def available(self, position: SupportsIndex) -> dict[str, bool | range]:
        """Return for each field whether the record has a value; of a sequence, the range of items.

        A sequence that is missing is False; one without items is ``range(0, 0)``.
        """
        found = masks.available(self._source, self._id_at(position))
        return {field.name: found[field.name] for field in self._fields}

    def raw_items(
        self, position: SupportsIndex, field: str, items: Items = True
    ) -> list[bytes] | None:
        """Return items of a sequence as their encoding made them, decompressed and not decoded.

        Parameters
        ----------
        items
            All by default; else as in `read`.

        Returns
        -------
        list of bytes or None
            None if the record has no sequence.
        """
        record, declared = self._id_at(position), self._source.schema.field(field)
        if not declared.is_sequence:
            raise SchemaError("this is no sequence; read its bytes with `raw`", field=field)
        return masks.raw_items(self._source, record, declared, items)

    def _check_selected(self, names: Iterable[str]) -> None:
        selected, schema = self._selected(), self._source.schema
        names = [name for name in names if name != ID]
        if unknown := [name for name in names if name not in schema.names]:
            raise schema.unknown(unknown)
        if others := [repr(name) for name in names if name not in selected]:
            raise UnknownNameError(
                f"not among what this view selects: {', '.join(others)}; it selects "
                f"{', '.join(selected) or 'nothing'}"
            )

    def _single(self, name: str) -> Field:
        """Return a field whose values are no sequences."""
        field = self._source.schema.field(name)
        if field.is_sequence:
            raise SchemaError(
                "this is a sequence; its items are read with `raw_items` and `read`", field=name
            )
        return field

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
        if type(position) is not int:
            position = index_of(position)
        try:
            raws, ids, _ = self._reads
            return raws[field](ids[position])
        except (LookupError, OverflowError, TypeError, CorruptCacheError, MissingChunkError):
            return self._raw(position, field)

    def _raw(self, position: SupportsIndex, field: str) -> bytes | None:
        """Do what `raw` does when it is not prepared for it, or finds something wrong."""
        declared = self._single(field)
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
        bodies = self._source.bodies(ids, self._single(field))
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
        record, declared = self._id_at(position), self._single(field)
        return io.BufferedReader(ValueFile(self._source, record, declared))

    def _ids_of(self, positions: Positions | None) -> Ids:
        if positions is None:
            return as_array(self._record_ids())
        return self._ids_at(positions)


def _as_range(ids: Sequence[int]) -> range | Ids:
    """Return consecutive ids as a range, whose metadata is a slice and needs no gathering."""
    if not ids:
        return range(0)
    first, count = ids[0], len(ids)
    if ids[-1] == first + count - 1 and all(a + 1 == b for a, b in itertools.pairwise(ids)):
        return range(first, first + count)
    return np.asarray(ids, np.int64)
