"""Tables on their way into the store: Arrow and pandas, column by column.

Bytes and text that are stored uncompressed go to disk as the one buffer that they are; only their
checksums are computed value by value.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sqlstore import limits
from sqlstore.arrow import is_of_pandas
from sqlstore.batch import Block, Choose, FieldBlock, FieldEncoder, field_block, too_large
from sqlstore.columns.base import is_bytes, is_text
from sqlstore.encodings import Encodings
from sqlstore.errors import EncodeError, SchemaError
from sqlstore.given import Given, metadata_array, one_array, series_values
from sqlstore.log.table import Values, no_values
from sqlstore.schema import Field, Schema
from sqlstore.sizes import about_bytes
from sqlstore.types import Buffer, SqlValue
from sqlstore.view import View

_Columns: TypeAlias = "dict[str, Given]"
_TEXT_OR_BYTES = ("bytes", "utf8")


def is_tabular(data: object) -> bool:
    """Return whether these are records in columns: an Arrow stream, or a pandas DataFrame.

    A view has a stream too, but of its metadata only, and a pandas Series may hold mappings: they
    are taken record by record.
    """
    if isinstance(data, View) or is_of_pandas(data, "Series"):
        return False
    return hasattr(data, "__arrow_c_stream__") or is_frame(data)


def is_frame(data: object) -> bool:
    """Return whether these are records in a pandas DataFrame."""
    return is_of_pandas(data, "DataFrame")


def blocks(
    data: Any,
    schema: Schema,
    encodings: Encodings,
    choose: Choose,
    most_records: int,
    most_bytes: int,
) -> Iterator[Block]:
    """Return tabular data as blocks of a limited size.

    Parameters
    ----------
    data
        Arrow table, record batch or reader, pandas DataFrame (its index is not used), or anything
        with an Arrow stream.
    choose
        Says how to compress each field.
    most_records, most_bytes
        Limits of a block; a single record may be larger than ``most_bytes``.

    Raises
    ------
    SchemaError
        A column is unknown, missing or does not fit. Rows are counted from the first of ``data``.
    """
    if is_frame(data):  # not by way of Arrow: a column may hold arrays, or values of many kinds
        check_names(list(data.columns), schema)
        pieces = _frame_pieces(data, schema, most_records)
    else:
        data = as_arrow(data)
        check_names(data.schema.names, schema)
        pieces = _arrow_pieces(data, schema, most_records)
    row = 0
    payload = partial(_payload, encodings, choose)
    for columns, count in pieces:
        for piece, n_piece in _halved(columns, count, most_bytes):
            yield _block(piece, n_piece, schema, payload, row)
            row += n_piece


def check_names(names: Sequence[Any], schema: Schema) -> None:
    """Refuse names that are no field or metadata column, or there twice."""
    if unknown := [name for name in names if name not in schema.names]:
        raise schema.unknown(unknown)
    if len(set(names)) < len(names):
        raise SchemaError("two columns of the table have the same name")


def as_arrow(data: Any) -> Any:
    """Return data as one of Arrow's own classes; a stream is not read yet."""
    if isinstance(data, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return data
    try:
        return pa.RecordBatchReader.from_stream(data)
    except pa.ArrowInvalid as error:
        raise SchemaError(f"this Arrow stream has no records in it: {error}") from error


def _arrow_pieces(data: Any, schema: Schema, most: int) -> Iterator[tuple[_Columns, int]]:
    for table in [data] if isinstance(data, pa.Table) else _tables(data, most):
        for start in range(0, table.num_rows, most):
            part = table.slice(start, most)
            names = part.schema.names
            yield {n: one_array(part.column(n), n, schema) for n in names}, part.num_rows


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


def _frame_pieces(frame: Any, schema: Schema, most: int) -> Iterator[tuple[_Columns, int]]:
    for start in range(0, len(frame), most):
        part = frame.iloc[start : start + most]
        yield {name: series_values(part[name], name, schema) for name in part.columns}, len(part)


def _halved(columns: _Columns, count: int, most_bytes: int) -> Iterator[tuple[_Columns, int]]:
    if count > 1 and sum(map(_size, columns.values())) > most_bytes:
        half = count // 2
        yield from _halved({n: c[:half] for n, c in columns.items()}, half, most_bytes)
        yield from _halved({n: c[half:] for n, c in columns.items()}, count - half, most_bytes)
    else:
        yield columns, count


def _size(column: Given) -> int:
    if isinstance(column, pa.Array):
        return int(column.nbytes)
    return sum(map(about_bytes, column))


def _block(
    columns: _Columns, count: int, schema: Schema, payload: Callable[..., FieldBlock], row: int
) -> Block:
    arrays = {
        column.number: metadata_array(column, columns.get(name), count, row)
        for name, column in schema.columns.items()
    }
    fields = {
        field.number: payload(field, columns.get(name), count, row)
        for name, field in schema.fields.items()
    }
    sql: list[Sequence[SqlValue]] = [
        column.kind.to_sql(arrays[column.number]) for column in schema.columns.values()
    ]
    return Block(count, fields, arrays, sql)


def _payload(
    encodings: Encodings,
    choose: Choose,
    field: Field,
    given: Given | None,
    count: int,
    row: int,
) -> FieldBlock:
    if given is None:
        return FieldBlock([], no_values(count))
    if isinstance(given, pa.Array):
        if field.encoding in _TEXT_OR_BYTES:
            given = _checked_bytes(field, given)
            if field.compression is None:
                return _as_it_lies(field, given, row)
        given = _python_values(field, given)
    encode = FieldEncoder(field, encodings)
    return field_block(field, [encode(value, row + i) for i, value in enumerate(given)], choose)


def _checked_bytes(field: Field, array: pa.Array) -> pa.Array:
    """Return bytes or text with 64-bit offsets, or refuse what is neither."""
    wants_text = field.encoding == "utf8"
    fits = is_text(array.type) if wants_text else is_bytes(array.type)
    if not (fits or pa.types.is_null(array.type)):
        expected = "text" if wants_text else "bytes"
        raise EncodeError(f"expected {expected}, got a column of {array.type}", field=field.name)
    try:
        if wants_text:
            array.validate(full=True)
        return array.cast(pa.large_string() if wants_text else pa.large_binary())
    except pa.ArrowException as error:
        raise EncodeError(str(error), field=field.name) from error


def _as_it_lies(field: Field, array: pa.Array, row: int) -> FieldBlock:
    """Return uncompressed values as the one buffer that holds them, without copying it."""
    present = np.ones(len(array), bool)
    dense = array
    if array.null_count:
        present = array.is_valid().to_numpy(zero_copy_only=False)
        dense = array.drop_null()
    _, offsets, data = dense.buffers()
    ends = np.frombuffer(offsets, np.int64)[dense.offset : dense.offset + len(dense) + 1]
    length = np.zeros(len(array), np.int64)
    length[present] = np.diff(ends)
    _check_sizes(field, length, row)
    view = memoryview(data) if data is not None else memoryview(b"")
    bounds = ends.tolist()
    crc = zlib.crc32
    crcs = [crc(view[start:end]) for start, end in itertools.pairwise(bounds)]
    body: list[Buffer] = [view[bounds[0] : bounds[-1]]] if len(dense) else []
    values = no_values(len(array))
    stored = length.astype(np.uint32)
    checks = np.zeros(len(array), np.uint32)
    checks[present] = crcs
    return FieldBlock(
        body,
        Values(present, values.offset, stored, stored, values.items, checks, values.compression),
    )


def _check_sizes(field: Field, lengths: NDArray[np.int64], row: int) -> None:
    too_long = np.flatnonzero(lengths > limits.MAX_VALUE_BYTES)
    if len(too_long):
        first = int(too_long[0])
        raise too_large(int(lengths[first]), field.name, row + first)


def _python_values(field: Field, array: pa.Array) -> list[Any]:
    """Return Arrow values as what the field's encoding takes."""
    if field.encoding != "array":
        values: list[Any] = array.to_pylist()
        return values
    dense = iter(_ndarrays(field, array.drop_null()))
    return [next(dense) if there else None for there in array.is_valid().to_pylist()]


def _ndarrays(field: Field, array: pa.Array) -> Iterable[Any]:
    """Return numbers, lists of numbers, or tensors, none of them missing, as NumPy has them.

    Behind the last list there may be more.
    """
    is_tensor = isinstance(array, pa.FixedShapeTensorArray)
    outer = array.storage if is_tensor else array
    items = outer.flatten() if is_list(outer.type) else outer
    if not (pa.types.is_primitive(items.type) or pa.types.is_null(array.type)):
        raise EncodeError(f"a column of {array.type} is no column of arrays", field=field.name)
    if items.null_count:
        raise EncodeError("an array has a null in it, which NumPy does not know", field=field.name)
    numbers: NDArray[Any]
    numbers = array.to_numpy_ndarray() if is_tensor else items.to_numpy(zero_copy_only=False)
    if is_tensor or items is outer:
        return numbers
    return np.split(numbers, np.cumsum(pc.list_value_length(outer).to_numpy()))


def is_list(kind: pa.DataType) -> bool:
    """Return whether values of an Arrow type are lists."""
    types = pa.types
    tests = types.is_list, types.is_large_list, types.is_fixed_size_list
    return any(test(kind) for test in (*tests, types.is_list_view, types.is_large_list_view))
