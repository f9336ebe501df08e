"""Arrow arrays over the memory of NumPy arrays.

``pa.array`` would do as well, but imports pandas when it is first called, which takes a quarter of
a second.
"""

from __future__ import annotations

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
