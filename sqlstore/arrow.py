"""NumPy arrays as Arrow arrays and the other way, over the same memory; whose data it is.

``pa.array`` and ``to_numpy`` would do as well, but they import pandas when they are first called,
which takes a quarter of a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sqlstore.types import Ids


def int64_array(values: Ids) -> pa.Int64Array:
    """Return integers as an Arrow array that shares their memory."""
    integers = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(integers), [None, pa.py_buffer(integers)])


def validity(present: NDArray[np.bool_]) -> pa.Buffer | None:
    """Return the validity bitmap of an array, or None if no value is missing."""
    if present.all():
        return None
    return pa.py_buffer(np.packbits(present, bitorder="little"))


def reordered(array: pa.Array, order: Ids) -> pa.Array:
    """Return the values of a binary array at these places; of binary views no value is copied."""
    if array.type != pa.binary_view():
        return array.take(int64_array(order))
    _, views, *data = array.buffers()
    words = np.frombuffer(views, "V16")[array.offset :][order]  # one view is 16 bytes
    valid = validity(presence(array)[order])
    return pa.Array.from_buffers(array.type, len(order), [valid, pa.py_buffer(words), *data])


def unsigned(array: pa.Array) -> NDArray[np.unsignedinteger[Any]]:
    """Return unsigned integers without missing values as a NumPy array."""
    data = np.frombuffer(array.buffers()[1] or b"", f"<u{array.type.bit_width // 8}")
    return data[array.offset : array.offset + len(array)]


def presence(array: pa.Array) -> NDArray[np.bool_]:
    """Return which values are not missing."""
    bitmap = array.buffers()[0]
    if bitmap is None:
        return np.ones(len(array), bool)
    end = array.offset + len(array)
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=end, bitorder="little")
    return bits[array.offset :].view(bool)


def is_of_pandas(data: object, name: str) -> bool:
    """Return whether data is of a class of pandas, which is not imported for that."""
    return any(
        kind.__name__ == name and kind.__module__.startswith("pandas")
        for kind in type(data).__mro__
    )
