"""The segment table: an Arrow IPC stream that says what a commit did.

The table of an append has a row per record. Column ``c<number>`` holds a metadata column in its
declared Arrow type; column ``f<number>`` says where the record's value of a field lies and is null
where there is none. The table of a create, and of whatever changes the schema later, has a row per
field and metadata column of the schema.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.arrow import presence, unsigned
from sqlstore.errors import CorruptChunkError
from sqlstore.log.ipc import VALUE_TYPE
from sqlstore.log.segment import Trailer
from sqlstore.schema import Column, Field, Schema, check_stored
from sqlstore.types import Ids

SETTINGS: Final = b"sqlstore"
RECORD: Final = pa.field("record", pa.int64(), nullable=False)
"""The first column of a table that is about records that were there before."""

_MOST_COLUMNS: Final = 2**31 - 1  # ever: their numbers are int32, and never reused
SCHEMA_ROWS: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("compression", pa.string()),
        pa.field("nullable", pa.bool_(), nullable=False),
        pa.field("index", pa.bool_(), nullable=False),
        pa.field("key", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Values:
    """Where the values of one field lie, a row per record; every array has shape ``(n,)``.

    Attributes
    ----------
    present
        bool: whether the record has a value of this field. Elsewhere the other arrays are 0.
    offset, length
        uint32: place in the chunk and stored length, in bytes.
    raw_length
        uint32: length after decompressing.
    items
        uint32: number of items of a sequence, 0 for a single value.
    crc
        uint32: CRC-32 of the stored bytes.
    compression
        uint8: number of the compression.
    """

    present: NDArray[np.bool_]
    offset: NDArray[np.uint32]
    length: NDArray[np.uint32]
    raw_length: NDArray[np.uint32]
    items: NDArray[np.uint32]
    crc: NDArray[np.uint32]
    compression: NDArray[np.uint8]

    def only(self, rows: NDArray[np.bool_]) -> Values:
        """Return that only some of the records have a value."""
        return dataclasses.replace(self, present=self.present & rows)

    def rows(self, chosen: slice | Ids) -> Values:
        """Return some of the rows."""
        names = [field.name for field in dataclasses.fields(self)]
        return Values(*(getattr(self, name)[chosen] for name in names))

    def laid_out(self, start: int) -> tuple[Values, int]:
        """Return the same values lying back to back from an offset on, and where they end."""
        ends = start + np.cumsum(self.length, dtype=np.int64)
        offset = np.where(self.present, ends - self.length, 0).astype(np.uint32)
        return dataclasses.replace(self, offset=offset), int(ends[-1]) if len(ends) else start


def build_append(values: Mapping[int, Values], columns: Mapping[int, pa.Array]) -> pa.Buffer:
    """Return the table of an append as an Arrow IPC stream.

    Parameters
    ----------
    values
        By field number.
    columns
        Arrays of the declared type, by column number.
    """
    names = [f"c{number}" for number in columns] + [f"f{number}" for number in values]
    arrays = [*columns.values(), *(values_array(v) for v in values.values())]
    return stream(pa.record_batch(arrays, names=names))


def values_array(values: Values) -> pa.StructArray:
    """Return where values lie as a column of a segment table."""
    children = [pa.array(getattr(values, field.name)) for field in VALUE_TYPE]
    mask = None if values.present.all() else pa.array(~values.present)
    return pa.StructArray.from_arrays(children, fields=list(VALUE_TYPE), mask=mask)


def build_schema(schema: Schema, settings: Mapping[str, object]) -> pa.Buffer:
    """Return the table of a schema, with the settings of the store as JSON beside it."""
    rows = [
        ("field", f.number, f.name, f.encoding, f.compression, True, False, False)
        for f in schema.fields.values()
    ] + [
        (
            "column",
            c.number,
            c.name,
            str(c.type),
            None,
            c.nullable,
            c.index,
            c.name == schema.key,
        )
        for c in schema.columns.values()
    ]
    arrays = [
        pa.array([row[i] for row in rows], type=field.type) for i, field in enumerate(SCHEMA_ROWS)
    ]
    described = SCHEMA_ROWS.with_metadata({SETTINGS: json.dumps(settings)})
    return stream(pa.record_batch(arrays, schema=described))


def stream(batch: pa.RecordBatch) -> pa.Buffer:
    """Return a record batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def parse_schema(
    batch: pa.RecordBatch, trailer: Trailer, name: str
) -> tuple[Schema, dict[str, Any]]:
    """Return the schema and the settings that a commit holds.

    Parameters
    ----------
    name
        The chunk, for the message of an error.
    """
    if batch.schema != SCHEMA_ROWS:
        raise not_a_schema(trailer, name)
    try:
        settings = _settings((batch.schema.metadata or {})[SETTINGS])
        schema = _schema(batch, trailer, settings)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise misfit(trailer, name, f"holds a schema that makes no sense: {error}") from error
    for column in schema.columns.values():
        _ = column.kind  # of a zone, perhaps, that this machine does not know
    return schema, settings


def _settings(text: bytes) -> dict[str, Any]:
    settings = json.loads(text)
    if not isinstance(settings, dict):
        raise TypeError("its settings are no object")
    size, created_at = int(settings["chunk_size"]), int(settings.get("created_at", 0))
    if not 0 < size <= limits.MAX_CHUNK_SIZE or created_at not in limits.MOMENTS:
        raise ValueError(f"chunks of {size} bytes, created at {created_at}")
    if not isinstance(settings["library_version"], str):
        raise TypeError("the version of the library is no text")
    return settings


def _schema(batch: pa.RecordBatch, trailer: Trailer, settings: Mapping[str, Any]) -> Schema:
    fields: list[Field] = []
    columns: list[Column] = []
    key = None
    for row in batch.to_pylist():
        called, number = row["name"], row["number"]
        if row["kind"] == "field":
            fields.append(Field(row["type"], row["compression"], name=called, number=number))
        elif row["kind"] == "column":
            how = row["index"], row["nullable"]
            columns.append(Column(row["type"], *how, name=called, number=number))
            key = called if row["key"] else key
        else:
            raise ValueError(f"a {row['kind']!r}")
    check_stored(fields, columns, key)
    given = max((column.number + 1 for column in columns), default=0)
    next_column = int(settings.get("next_column", given))
    if not given <= next_column <= _MOST_COLUMNS:
        raise ValueError(f"the next column is {next_column}")
    by_name = {f.name: f for f in fields}, {c.name: c for c in columns}
    return Schema(*by_name, key, trailer.schema_version, next_column)


def not_a_schema(trailer: Trailer, name: str) -> CorruptChunkError:
    """Return the error for a commit that should say what a store is."""
    what = "does not create a store" if trailer.number == 1 else "is no change of the schema"
    return misfit(trailer, name, what)


def misfit(trailer: Trailer, name: str, what: str) -> CorruptChunkError:
    """Return the error for a table that is not what the kind of its commit says.

    Parameters
    ----------
    name
        The chunk.
    what
        What is wrong with the commit.
    """
    return CorruptChunkError(
        f"commit {trailer.number} {what}", chunk=name, offset=trailer.table_start
    )


def parse_ids(batch: pa.RecordBatch, trailer: Trailer) -> Ids | None:
    """Return the records that a table is about, which it has in its first column.

    Returns
    -------
    numpy.ndarray or None
        None if it has no such column, or names records that did not exist before the commit.
    """
    if list(batch.schema)[:1] != [RECORD] or batch.column(0).null_count or trailer.records:
        return None
    ids: Ids = batch.column(0).to_numpy()
    are_those = not len(ids) or (ids.min() >= 0 and ids.max() < trailer.first_record)
    return ids if are_those else None


def parse_values(batch: pa.RecordBatch, number: int) -> Values:
    """Return where the values of one field lie; a field younger than the segment has none."""
    index = batch.schema.get_field_index(f"f{number}")
    if index < 0:
        return no_values(batch.num_rows)
    array = batch.column(index)
    children: list[Any] = [unsigned(array.field(i)) for i in range(len(VALUE_TYPE))]
    return Values(presence(array), *children)


def no_values(count: int) -> Values:
    """Return that no record has a value."""
    zeros = np.zeros(count, np.uint32)
    absent = np.zeros(count, bool)
    return Values(absent, zeros, zeros, zeros, zeros, zeros, np.zeros(count, np.uint8))


def parse_column(batch: pa.RecordBatch, column: Column) -> pa.Array:
    """Return one metadata column; a column younger than the segment is all null."""
    index = batch.schema.get_field_index(f"c{column.number}")
    if index < 0:
        return pa.nulls(batch.num_rows, column.kind.arrow)
    return batch.column(index)


def columns_of(batch: pa.RecordBatch, columns: Iterable[Column]) -> dict[int, pa.Array]:
    """Return those metadata columns that a segment has, by number."""
    there = set(batch.schema.names)
    names = {column.number: f"c{column.number}" for column in columns}
    return {number: batch.column(name) for number, name in names.items() if name in there}


def _wrong(array: pa.Array, column: Column) -> str | None:
    """Return what an array has that a column cannot have, or None."""
    if array.type != column.kind.arrow:
        return f"{array.type} values"
    if column.kind.storage != "INTEGER":  # of the others every value can be held
        return None
    try:
        column.kind.check(array)
    except ValueError as error:
        return str(error)
    return None


def check_columns(
    arrays: Mapping[int, pa.Array], columns: Iterable[Column], number: int, chunk: str, offset: int
) -> None:
    """Raise if a commit has other metadata than the schema says.

    Parameters
    ----------
    arrays
        By the number of the column.
    number, chunk, offset
        Of the commit, and where it lies, for the message of an error.

    Raises
    ------
    CorruptChunkError
        A type is another, or a value is one that the column cannot hold.
    """
    for column in columns:
        array = arrays.get(column.number)
        if array is None:
            continue
        wrong = _wrong(array, column)
        if wrong is not None:
            raise CorruptChunkError(
                f"commit {number} has {wrong} in the {column.type} column {column.name!r}",
                chunk=chunk,
                offset=offset,
            )


def concatenated(parts: Sequence[Values]) -> Values:
    """Return several pieces as one."""
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in dataclasses.fields(Values)]
    return Values(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
