"""Stored bytes back to values: one by one, and as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sqlstore import limits, threads
from sqlstore.encodings import ENCODINGS, stacked_arrays
from sqlstore.errors import SchemaError
from sqlstore.types import Buffer, Ids

if TYPE_CHECKING:
    from sqlstore.schema import Field
    from sqlstore.source import Source


def decoded(source: Source, ids: Sequence[int], field: Field) -> list[object]:
    """Return the values of a field for records by id, None where there is none.

    Encodings that let go of Python's lock are decoded in several threads.
    """
    if len(ids) == 1:
        record = int(ids[0])
        return [source.decoded(source.stored(record, field), record, field)]
    buffers = source.bodies(np.asarray(ids, np.int64), field).each()
    work = list(zip(buffers, ids, strict=True))

    def decode(one: tuple[Buffer | None, int]) -> object:
        return source.decoded(one[0], one[1], field)

    n_bytes = sum(len(buffer) for buffer in buffers if buffer is not None)
    if ENCODINGS[field.encoding].parallel and n_bytes >= limits.PARALLEL_BYTES:
        return threads.spread(decode, work)
    return [decode(one) for one in work]


def stacked(source: Source, ids: Ids, field: Field) -> NDArray[Any]:
    """Return the arrays of a field as one, of shape ``(n, ...)``.

    Raises
    ------
    SchemaError
        They differ in shape or dtype, one is missing, or they are no arrays.
    """
    if not ENCODINGS[field.encoding].gives_arrays:
        raise SchemaError(f"{field.encoding} values cannot be stacked: they are no arrays")
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
