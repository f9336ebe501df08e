"""What every type of metadata column can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sqlstore.types import SqlValue


class ColumnType(ABC):
    """One declared type.

    Attributes
    ----------
    name
        How the type is written in a schema.
    arrow
        The Arrow type that the column has in the log and in every export.
    storage
        ``INTEGER``, ``REAL``, ``TEXT`` or ``BLOB``: the type in SQLite.
    plain
        The Arrow type of the values that `convert` returns.
    """

    name: str
    arrow: pa.DataType
    storage: str
    plain: pa.DataType
    can_be_key: bool = True

    @abstractmethod
    def convert(self, value: Any) -> SqlValue:
        """Return what SQLite stores for a Python value that is not None.

        Raises
        ------
        ValueError, TypeError, OverflowError
            The value does not fit the type.
        """

    def build(self, values: Sequence[SqlValue]) -> pa.Array:
        """Return converted values as an Arrow array of the declared type."""
        array = pa.array(values, type=self.plain)
        return array if self.plain == self.arrow else array.cast(self.arrow)

    def accept(self, array: pa.Array) -> pa.Array:
        """Return any Arrow array as one of the declared type, or refuse it.

        Raises
        ------
        ValueError, pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError
            A value cannot be kept exactly.
        """
        if array.type == self.arrow:
            return array
        if pa.types.is_nested(array.type):
            raise ValueError(f"{array.type} values do not fit a {self.name} column")
        if pa.types.is_dictionary(array.type):
            return self.accept(array.dictionary_decode())
        return array.cast(self.arrow, safe=True)

    def to_sql(self, array: pa.Array) -> list[SqlValue]:
        """Return what SQLite stores for each value of an array of the declared type."""
        return to_list(array.cast(self.plain) if self.plain != self.arrow else array)

    def to_python(self, array: pa.Array) -> list[object]:
        """Return each value of an array of the declared type as Python's own kind of value."""
        return array.to_pylist()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"ColumnType({self.name!r})"


def to_list(array: pa.Array) -> list[SqlValue]:
    """Return Arrow integers, floats, strings or bytes as a list, faster than ``to_pylist``."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    if not array.null_count:
        return array.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    if not pa.types.is_primitive(array.type):
        return array.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    values: list[SqlValue] = array.fill_null(0).to_numpy(zero_copy_only=False).tolist()
    for i in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
        values[i] = None
    return values


def shown(value: object) -> str:
    """Return type and value, shortened, for the message of an error."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
