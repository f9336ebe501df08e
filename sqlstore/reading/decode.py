"""Stored bytes back to values: one by one, and as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sqlstore import limits, threads
from sqlstore.encodings import stacked_arrays
from sqlstore.errors import DecodeError, SchemaError
from sqlstore.types import Buffer, Ids

if TYPE_CHECKING:
    from sqlstore.encodings import Encoding
    from sqlstore.schema import Field
    from sqlstore.source import Source

_Work = tuple["Buffer | None", int, "int | None"]
"""Stored bytes, the record, and the number of the item in a sequence."""


def value(source: Source, record: int, field: Field) -> object:
    """Return the value of a field of one record, None if there is none."""
    if field.is_sequence:
        return decoded_items(source, record, field, None)
    return decoded_bytes(source.encoding(field), field, source.stored(record, field), record, None)


def decoded(source: Source, ids: Sequence[int], field: Field) -> list[object]:
    """Return the values of a field for records by id, None where there is none.

    Encodings that let go of Python's lock are decoded in several threads.
    """
    if field.is_sequence:
        return _sequences(source, ids, field)
    buffers = source.bodies(np.asarray(ids, np.int64), field).each()
    return _decoded(source, field, [(*pair, None) for pair in zip(buffers, ids, strict=True)])


def decoded_items(source: Source, record: int, field: Field, chosen: Sequence[int] | None) -> Any:
    """Return items of the sequence of a record as a list, or None if it has none."""
    items = source.items(record, field, chosen)
    if items is None:
        return None
    numbers = range(len(items)) if chosen is None else chosen
    work: list[_Work] = [(item, record, n) for item, n in zip(items, numbers, strict=True)]
    return _decoded(source, field, work)


def _sequences(source: Source, ids: Sequence[int], field: Field) -> list[object]:
    found = [source.items(int(record), field, None) for record in ids]
    work: list[_Work] = [
        (item, int(record), number)
        for record, items in zip(ids, found, strict=True)
        for number, item in enumerate(items or ())
    ]
    values = iter(_decoded(source, field, work))
    return [None if items is None else [next(values) for _ in items] for items in found]


def _decoded(source: Source, field: Field, work: list[_Work]) -> list[object]:
    encoding = source.encoding(field)

    def decode(one: _Work) -> object:
        return decoded_bytes(encoding, field, *one)

    n_bytes = sum(len(data) for data, _, _ in work if data is not None)
    if encoding.parallel and n_bytes >= limits.PARALLEL_BYTES and len(work) > 1:
        return threads.spread(decode, work)
    return [decode(one) for one in work]


def decoded_bytes(
    encoding: Encoding, field: Field, data: Buffer | None, record: int, item: int | None
) -> object:
    """Return the value of stored bytes, None if there are none; an error says where they are."""
    if data is None:
        return None
    try:
        return encoding.decode(data)
    except DecodeError as error:
        where: dict[str, object] = {"record": record, "field": field.name}
        where |= {} if item is None else {"item": item}
        raise DecodeError(error.message, **where, **error.where) from error


def stacked(source: Source, ids: Ids, field: Field) -> NDArray[Any]:
    """Return the arrays of a field as one, of shape ``(n, ...)``.

    Raises
    ------
    SchemaError
        They differ in shape or dtype, one is missing, or they are no arrays.
    """
    if field.is_sequence:
        raise SchemaError("sequences cannot be stacked; read them with `read`", field=field.name)
    if not source.encoding(field).gives_arrays:
        raise SchemaError(
            f"values of {field.encoding} cannot be stacked: they are no arrays", field=field.name
        )
    if not len(ids):
        raise SchemaError("no records to stack: the shape of no arrays is not known")
    if field.encoding == "array":
        bodies = source.bodies(ids, field)
        whole = stacked_arrays(bodies.each())
        if whole is not None:
            return whole
    arrays: list[Any] = decoded(source, ids.tolist(), field)
    _check_alike(arrays, ids, field)
    return np.stack(arrays, dtype=arrays[0].dtype)  # which keeps the byte order


def _check_alike(arrays: list[Any], ids: Ids, field: Field) -> None:
    first = arrays[0]
    for array, record in zip(arrays, ids.tolist(), strict=True):
        where = {"record": record, "field": field.name}
        if array is None:
            raise SchemaError("the record has no value to stack", **where)
        if first is not None and (array.shape, array.dtype) != (first.shape, first.dtype):
            raise SchemaError(
                f"shape {array.shape} of {array.dtype} cannot be stacked with shape {first.shape} "
                f"of {first.dtype} of record {ids[0]}",
                **where,
            )
