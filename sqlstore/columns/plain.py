"""Booleans, numbers, text, bytes and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sqlstore.columns.base import ColumnType, is_bytes, is_text, shown, to_list
from sqlstore.errors import DecodeError
from sqlstore.json_text import json_text
from sqlstore.types import SqlValue

MAX_SQL_INTEGER: Final = 2**63 - 1

_NUMBERS: Final = (int, float, np.integer, np.floating)
_NO_NUMBERS: Final = (bool, np.timedelta64)
"""What Python and NumPy derive from their integers."""


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


class Bool(ColumnType):
    """True or False."""

    name = "bool"
    straight = bool
    arrow = pa.bool_()
    storage = "INTEGER"
    plain = pa.int64()
    can_be_key = False

    def convert(self, value: Any) -> SqlValue:
        if isinstance(value, (bool, np.bool_)):
            return int(value)
        raise TypeError(f"expected True or False, got {shown(value)}")

    def settled(self, values: Sequence[SqlValue]) -> Sequence[SqlValue]:
        """Return integers: SQLite's driver binds a bool by way of its slow adapters."""
        return [None if value is None else int(value) for value in values]

    def takes(self, kind: pa.DataType) -> bool:
        return bool(pa.types.is_boolean(kind))

    def to_sql(self, array: pa.Array) -> list[SqlValue]:
        return to_list(array)


class Integer(ColumnType):
    """Integers of 8 to 64 bits, with or without sign."""

    straight = int
    storage = "INTEGER"

    def __init__(self, arrow: pa.DataType) -> None:
        self.name = str(arrow)
        self.arrow = self.plain = arrow
        limits = np.iinfo(self.name)
        self.bounds = int(limits.min), min(int(limits.max), MAX_SQL_INTEGER)

    def convert(self, value: Any) -> SqlValue:
        if type(value) is not int:
            if not isinstance(value, (int, np.integer)) or isinstance(value, _NO_NUMBERS):
                raise TypeError(f"expected an integer, got {shown(value)}")
            value = int(value)
        lowest, highest = self.bounds
        if lowest <= value <= highest:
            stored: SqlValue = value
            return stored
        raise OverflowError(f"{value} is not between {lowest} and {highest}")

    def takes(self, kind: pa.DataType) -> bool:
        return _is_number(kind)

    def check(self, array: pa.Array) -> None:
        highest = pc.max(array).as_py() if self.name == "uint64" else None
        if highest is not None and highest > MAX_SQL_INTEGER:
            raise ValueError(f"{highest} is above 2**63 - 1, the largest integer of SQLite")


class Float(ColumnType):
    """Floating-point numbers; NaN is NULL for SQLite only."""

    storage = "REAL"
    can_be_key = False

    def __init__(self, arrow: pa.DataType, name: str) -> None:
        self.name = name
        self.arrow = arrow
        self.plain = arrow
        self.straight = float if name == "float64" else None

    def convert(self, value: Any) -> SqlValue:
        if type(value) is not float:
            if not isinstance(value, _NUMBERS) or isinstance(value, _NO_NUMBERS):
                raise TypeError(f"expected a number, got {shown(value)}")
            value = float(value)
        if self.name == "float64":
            stored: SqlValue = value
            return stored
        with np.errstate(over="ignore"):
            single = float(np.float32(value))
        if math.isinf(single) and not math.isinf(value):
            raise OverflowError(f"{value} is too large for float32")
        return single

    def takes(self, kind: pa.DataType) -> bool:
        return _is_number(kind)

    def accept(self, array: pa.Array) -> pa.Array:
        accepted = super().accept(array)
        if pa.types.is_float64(array.type) and not pc.is_inf(accepted).equals(pc.is_inf(array)):
            raise ValueError("a value is too large for float32")
        return accepted

    def to_sql(self, array: pa.Array) -> list[SqlValue]:
        return to_list(array)


class String(ColumnType):
    """Text that UTF-8 can hold."""

    name = "string"
    straight: type | None = str
    arrow = plain = pa.string()
    storage = "TEXT"

    def convert(self, value: Any) -> SqlValue:
        if type(value) is not str:
            if not isinstance(value, str):
                raise TypeError(f"expected a string, got {shown(value)}")
            value = str.__str__(value)
        if not value.isascii():
            value.encode()  # lone surrogates have no UTF-8 form
        stored: SqlValue = value
        return stored

    def takes(self, kind: pa.DataType) -> bool:
        return is_text(kind)

    def check(self, array: pa.Array) -> None:
        array.validate(full=True)


def _check_json(text: str) -> None:
    json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Json(String):
    """Anything that JSON can hold, kept as its text. In tables, text is JSON already."""

    name = "json"
    straight = None
    can_be_key = False

    def convert(self, value: Any) -> SqlValue:
        text = json_text(value)
        text.encode()  # lone surrogates have no UTF-8 form
        return text

    def convert_cell(self, value: Any) -> SqlValue:
        if not isinstance(value, str):
            return self.convert(value)
        _check_json(value)
        return super().convert(value)

    def accept(self, array: pa.Array) -> pa.Array:
        if not pa.types.is_nested(array.type):
            return super().accept(array)
        try:
            values = array.to_pylist(maps_as_pydicts="strict")
        except KeyError as error:
            raise ValueError(f"a map has a key twice: {error}") from error
        return self.build([None if value is None else self.convert(value) for value in values])

    def check(self, array: pa.Array) -> None:
        super().check(array)
        for text in array.drop_null().to_pylist():
            _check_json(text)

    def to_python(self, array: pa.Array) -> list[object]:
        try:
            return [None if text is None else json.loads(text) for text in array.to_pylist()]
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"a json column holds text that is not JSON: {error}") from error


class Binary(ColumnType):
    """Bytes."""

    name = "binary"
    straight = bytes
    arrow = plain = pa.binary()
    storage = "BLOB"

    def convert(self, value: Any) -> SqlValue:
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise TypeError(f"expected bytes, got {shown(value)}")

    def takes(self, kind: pa.DataType) -> bool:
        return is_bytes(kind)
