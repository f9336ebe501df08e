"""Tables on their way into the store: Arrow and pandas, column by column.

Bytes and text that are stored uncompressed go to disk as the one buffer that they are; only their
checksums are computed value by value.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from sqlstore.batch import Block, FieldBlock, FieldEncoder, field_block
from sqlstore.errors import EncodeError, SchemaError
from sqlstore.log.table import Values, no_values
from sqlstore.schema import Column, Field, Schema
from sqlstore.types import Buffer, SqlValue

_Column: TypeAlias = "pa.Array | list[Any]"
_Columns: TypeAlias = "dict[str, _Column]"
_TEXT_OR_BYTES = ("bytes", "utf8")


def is_tabular(data: object) -> bool:
    """Return whether these are records in columns: Arrow's classes, or a pandas DataFrame."""
    return isinstance(data, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)) or _is_frame(data)


def _is_frame(data: object) -> bool:
    return type(data).__name__ == "DataFrame" and type(data).__module__.startswith("pandas")


def blocks(data: Any, schema: Schema, most_records: int, most_bytes: int) -> Iterator[Block]:
    """Return tabular data as blocks of a limited size.

    Parameters
    ----------
    data
        Arrow table, record batch or reader, or pandas DataFrame (its index is not used).
    most_records, most_bytes
        Limits of a block; a single record may be larger than ``most_bytes``.

    Raises
    ------
    SchemaError
        A column is unknown, missing or does not fit. Rows are counted from the first of ``data``.
    """
    names = list(data.columns) if _is_frame(data) else data.schema.names
    _check_names(names, schema)
    frames = (
        _frame_pieces(data, schema, most_records)
        if _is_frame(data)
        else _arrow_pieces(data, most_records)
    )
    row = 0
    for columns, count in frames:
        for piece, n_piece in _halved(columns, count, most_bytes):
            yield _block(piece, n_piece, schema, row)
            row += n_piece


def _check_names(names: list[Any], schema: Schema) -> None:
    if unknown := [name for name in names if name not in schema.names]:
        raise schema.unknown(unknown)
    if len(set(names)) < len(names):
        raise SchemaError("two columns of the table have the same name")


def _arrow_pieces(data: Any, most: int) -> Iterator[tuple[_Columns, int]]:
    for table in [data] if isinstance(data, pa.Table) else _tables(data, most):
        for start in range(0, table.num_rows, most):
            part = table.slice(start, most)
            names = part.schema.names
            yield {name: _one_array(part.column(name)) for name in names}, part.num_rows


def _tables(data: Any, most: int) -> Iterator[pa.Table]:
    """Return record batches as tables of ``most`` rows or more, so that commits are not small."""
    waiting: list[pa.RecordBatch] = []
    for batch in [data] if isinstance(data, pa.RecordBatch) else data:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= most:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(_wide(column).chunks or [_empty(column)])
    )


def _empty(column: pa.ChunkedArray) -> pa.Array:
    return pa.nulls(0, _wide(column).type)


def _wide(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text and bytes with 64-bit offsets, so that joining them cannot overflow."""
    wide = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    return column.cast(wide[column.type]) if column.type in wide else column


def _frame_pieces(frame: Any, schema: Schema, most: int) -> Iterator[tuple[_Columns, int]]:
    for start in range(0, len(frame), most):
        part = frame.iloc[start : start + most]
        yield {name: _series(part[name], name, schema) for name in part.columns}, len(part)


def _series(series: Any, name: str, schema: Schema) -> _Column:
    if name in schema.fields:
        values = [None if _is_missing(value) else value for value in series.tolist()]
        kinds = {type(value) for value in values if value is not None}
        return pa.array(values, pa.large_binary()) if kinds == {bytes} else values
    is_float = schema.columns[name].kind.storage == "REAL"
    try:
        # For pandas NaN is a missing value; in a column of floats it is kept as what it is.
        array = pa.Array.from_pandas(series) if not is_float else pa.array(series.to_numpy())
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaError(str(error), column=name) from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _halved(columns: _Columns, count: int, most_bytes: int) -> Iterator[tuple[_Columns, int]]:
    if count > 1 and sum(map(_size, columns.values())) > most_bytes:
        half = count // 2
        yield from _halved({n: c[:half] for n, c in columns.items()}, half, most_bytes)
        yield from _halved({n: c[half:] for n, c in columns.items()}, count - half, most_bytes)
    else:
        yield columns, count


def _size(column: _Column) -> int:
    if isinstance(column, pa.Array):
        return int(column.nbytes)
    return sum(getattr(value, "nbytes", 0) or _length(value) for value in column)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (bytes, bytearray, str)) else 0


def _block(columns: _Columns, count: int, schema: Schema, row: int) -> Block:
    arrays = {
        column.number: _metadata(column, columns.get(name), count, row)
        for name, column in schema.columns.items()
    }
    fields = {
        field.number: _payload(field, columns.get(name), count, row)
        for name, field in schema.fields.items()
    }
    sql: list[Sequence[SqlValue]] = [
        column.kind.to_sql(arrays[column.number]) for column in schema.columns.values()
    ]
    return Block(count, fields, arrays, sql)


def _metadata(column: Column, given: _Column | None, count: int, row: int) -> pa.Array:
    if given is None:
        array = pa.nulls(count, column.kind.arrow)
    else:
        try:
            array = column.kind.accept(pa.array(given))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            message = f"{error} (in rows {row} to {row + count - 1})"
            raise SchemaError(message, column=column.name) from error
    if array.null_count and not column.nullable:
        first = row + int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise SchemaError("a value is required", column=column.name, row=first)
    return array


def _payload(field: Field, given: _Column | None, count: int, row: int) -> FieldBlock:
    if given is None:
        return FieldBlock([], no_values(count))
    if isinstance(given, pa.Array):
        if field.encoding in _TEXT_OR_BYTES:
            given = _checked_bytes(field, given)
            if field.compression is None:
                return _as_it_lies(given)
        given = _python_values(field, given)
    encode = FieldEncoder(field)
    return field_block([encode(value, row + i) for i, value in enumerate(given)])


def _checked_bytes(field: Field, array: pa.Array) -> pa.Array:
    """Return bytes or text with 64-bit offsets, or refuse what is neither."""
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    is_bytes = pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)
    is_bytes = is_bytes or pa.types.is_fixed_size_binary(array.type) or pa.types.is_null(array.type)
    target = pa.large_string() if field.encoding == "utf8" else pa.large_binary()
    if field.encoding == "utf8" and not (is_text or pa.types.is_null(array.type)):
        raise EncodeError(f"expected text, got a column of {array.type}", field=field.name)
    if field.encoding == "bytes" and not is_bytes:
        raise EncodeError(f"expected bytes, got a column of {array.type}", field=field.name)
    try:
        if field.encoding == "utf8":
            array.validate(full=True)
        return array.cast(target)
    except pa.ArrowException as error:
        raise EncodeError(str(error), field=field.name) from error


def _as_it_lies(array: pa.Array) -> FieldBlock:
    """Return uncompressed values as the one buffer that holds them, without copying it."""
    present = np.ones(len(array), bool)
    dense = array
    if array.null_count:
        present = array.is_valid().to_numpy(zero_copy_only=False)
        dense = array.drop_null()
    _, offsets, data = dense.buffers()
    ends = np.frombuffer(offsets, np.int64)[dense.offset : dense.offset + len(dense) + 1]
    view = memoryview(data) if data is not None else memoryview(b"")
    bounds = ends.tolist()
    crc = zlib.crc32
    crcs = [crc(view[start:end]) for start, end in itertools.pairwise(bounds)]
    body: list[Buffer] = [view[bounds[0] : bounds[-1]]] if len(dense) else []
    values = no_values(len(array))
    values.present[:] = present
    length = np.zeros(len(array), np.uint32)
    length[present] = np.diff(ends)
    checks = np.zeros(len(array), np.uint32)
    checks[present] = crcs
    return FieldBlock(
        body,
        Values(present, values.offset, length, length, values.items, checks, values.compression),
    )


def _python_values(field: Field, array: pa.Array) -> list[Any]:
    """Return Arrow values as what the field's encoding takes."""
    if field.encoding != "array":
        return array.to_pylist()  # type: ignore[no-any-return]
    if isinstance(array, pa.FixedShapeTensorArray):
        return list(array.to_numpy_ndarray())
    if not pa.types.is_nested(array.type):
        return [None if v is None else np.asarray(v) for v in array.to_pylist()]
    numeric = pa.types.is_primitive(array.type.value_type)
    if not numeric or array.values.null_count:
        raise EncodeError(f"a column of {array.type} is no column of arrays", field=field.name)
    return [
        None if scalar.values is None else scalar.values.to_numpy(zero_copy_only=False)
        for scalar in array
    ]
