"""Values that people give for metadata columns and fields, column by column, as Arrow has them."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from sqlstore.columns.base import plain_arrow
from sqlstore.errors import EncodeError, SchemaError
from sqlstore.schema import Column, Schema
from sqlstore.types import SqlValue

Given: TypeAlias = "pa.Array | list[Any]"
"""Plain Arrow values, or Python objects of any kind."""

MISFIT: Final = (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError)
"""What is raised by values that are not what a column or a field takes."""


def one_array(column: pa.ChunkedArray, name: str, schema: Schema) -> pa.Array:
    """Return the plain values of a column as one array."""
    try:
        arrays = [plain(chunk) for chunk in column.chunks or [pa.nulls(0, column.type)]]
        return arrays[0] if len(arrays) == 1 else pa.concat_arrays(map(_wide, arrays))
    except MISFIT as error:
        raise misfit(error, name, schema) from error


def plain(array: pa.Array) -> pa.Array:
    """Return plain values, also of a dictionary of views, which Arrow itself cannot decode."""
    if pa.types.is_dictionary(array.type):
        return plain(array.dictionary).take(array.indices)
    return plain_arrow(array)


def _wide(array: pa.Array) -> pa.Array:
    """Return text and bytes with 64-bit offsets, so that joining them cannot overflow."""
    wide = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    return array.cast(wide[array.type]) if array.type in wide else array


def misfit(error: Exception, name: str, schema: Schema) -> SchemaError:
    """Return the error for a whole column that cannot be what the schema declares."""
    if name in schema.fields:
        return EncodeError(str(error), field=name)
    return SchemaError(str(error), column=name)


def series_values(series: Any, name: str, schema: Schema) -> Given:
    """Return a column of a frame: objects as they are, everything else as Arrow has it."""
    if series.dtype == object:
        return _objects(series, is_field=name in schema.fields)
    try:
        array = _from_pandas(series, name, schema)
    except MISFIT as error:
        raise misfit(error, name, schema) from error
    column = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    return one_array(column, name, schema)


def _objects(series: Any, *, is_field: bool) -> Given:
    missing = series.isna().tolist()
    values = [None if gone else v for v, gone in zip(series.tolist(), missing, strict=True)]
    kinds = {type(value) for value in values if value is not None}
    return pa.array(values, pa.large_binary()) if is_field and kinds == {bytes} else values


def _from_pandas(series: Any, name: str, schema: Schema) -> pa.Array | pa.ChunkedArray:
    """Return a column with Arrow's nulls for what pandas calls missing.

    That NaN is missing is so for pandas only: in a column of floats it is kept as what it is. Where
    pandas marks what is missing (`Float64`), it is missing.
    """
    is_float = isinstance(series.dtype, np.dtype) and series.dtype.kind == "f"
    if is_float and name in schema.columns and schema.columns[name].kind.storage == "REAL":
        return pa.array(series.to_numpy())
    return pa.Array.from_pandas(series)


def metadata_array(column: Column, given: Given | None, count: int, row: int = 0) -> pa.Array:
    """Return the values of a metadata column as an array of its declared type.

    Parameters
    ----------
    given
        None if every value is missing.
    count
        How many values there are.
    row
        Which row the first of them is, for the message of an error.

    Raises
    ------
    SchemaError
        A value does not fit, or is missing where one is required.
    """
    if given is None:
        array = pa.nulls(count, column.kind.arrow)
    elif isinstance(given, list):
        array = column.kind.build([_converted(v, column, row + i) for i, v in enumerate(given)])
    else:
        array = _accepted(given, column, row)
    if array.null_count and not column.nullable:
        first = row + int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise SchemaError("a value is required", column=column.name, row=first)
    return array


def _accepted(given: pa.Array, column: Column, row: int) -> pa.Array:
    try:
        return column.kind.accept(given)
    except MISFIT as error:
        message = f"{error} (in rows {row} to {row + len(given) - 1})"
        raise SchemaError(message, column=column.name) from error


def _converted(value: Any, column: Column, row: int) -> SqlValue:
    try:
        return None if value is None else column.kind.convert_cell(value)
    except MISFIT as error:
        raise SchemaError(str(error), column=column.name, row=row) from error
