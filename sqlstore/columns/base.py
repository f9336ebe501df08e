"""What every type of metadata column can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sqlstore.errors import DecodeError
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
    straight
        Python values of exactly this type need no `convert`, if they are in range; or None.
    bounds
        The lowest and the highest integer.
    """

    name: str
    arrow: pa.DataType
    storage: str
    plain: pa.DataType
    can_be_key: bool = True
    straight: type | None = None
    bounds: tuple[int, int] = (0, 0)

    @abstractmethod
    def convert(self, value: Any) -> SqlValue:
        """Return what SQLite stores for a Python value that is not None.

        Raises
        ------
        ValueError, TypeError, OverflowError
            The value does not fit the type.
        """

    def convert_cell(self, value: Any) -> SqlValue:
        """Return what SQLite stores for a Python value out of a table; see `convert`."""
        return self.convert(value)

    def settled(self, values: Sequence[SqlValue]) -> Sequence[SqlValue]:
        """Return what SQLite stores for values that are converted or straight."""
        return values

    def build(self, values: Sequence[SqlValue]) -> pa.Array:
        """Return converted values as an Arrow array of the declared type."""
        array = pa.array(values, type=self.plain)
        return array if self.plain == self.arrow else array.cast(self.arrow)

    def accept(self, array: pa.Array) -> pa.Array:
        """Return a plain Arrow array as one of the declared type, or refuse it.

        Parameters
        ----------
        array
            As `plain_arrow` gives it.

        Raises
        ------
        ValueError, pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError
            A value cannot be kept exactly.
        """
        if not (pa.types.is_null(array.type) or self.takes(array.type)):
            raise ValueError(f"{array.type} values do not fit a {self.name} column")
        accepted = array.cast(self.arrow, safe=True)
        self.check(accepted)
        return accepted

    @abstractmethod
    def takes(self, kind: pa.DataType) -> bool:
        """Return whether values of a plain Arrow type mean what values of this column mean."""

    def check(self, array: pa.Array) -> None:  # noqa: B027 - most types hold all of their Arrow type
        """Refuse an array of the declared type with a value that the column cannot hold.

        Raises
        ------
        ValueError, pyarrow.ArrowInvalid
            There is such a value.
        """

    def to_sql(self, array: pa.Array) -> list[SqlValue]:
        """Return what SQLite stores for each value of an array of the declared type."""
        return to_list(array.cast(self.plain) if self.plain != self.arrow else array)

    def to_python(self, array: pa.Array) -> list[object]:
        """Return each value of an array of the declared type as Python's own kind of value."""
        try:
            values: list[object] = array.to_pylist()
        except (ValueError, OverflowError) as error:  # in no commit, but perhaps in a cache
            raise DecodeError(f"a {self.name} column holds what is none: {error}") from error
        return values

    def __repr__(self) -> str:
        return f"ColumnType({self.name!r})"


def plain_arrow(array: pa.Array) -> pa.Array:
    """Return the same values without dictionary, runs or views: as one type for each meaning."""
    if pa.types.is_dictionary(array.type):
        return plain_arrow(array.dictionary_decode())
    if pa.types.is_run_end_encoded(array.type):
        return plain_arrow(pc.run_end_decode(array))
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of a plain Arrow type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether values of a plain Arrow type are bytes."""
    tests = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary
    return any(test(kind) for test in tests)


def to_list(array: pa.Array) -> list[SqlValue]:
    """Return Arrow integers, floats, strings or bytes as a list, faster than ``to_pylist``."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    if not array.null_count or not pa.types.is_primitive(array.type):
        listed: list[SqlValue] = array.to_numpy(zero_copy_only=False).tolist()
        return listed
    values: list[SqlValue] = array.fill_null(0).to_numpy(zero_copy_only=False).tolist()
    for i in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
        values[i] = None
    return values


def shown(value: object) -> str:
    """Return type and value, shortened, for the message of an error."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
