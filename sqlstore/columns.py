"""The types a metadata column can have: what Python, Arrow and SQLite make of each.

========================  ============================  ==========================
declared as               Arrow type                    SQLite storage
========================  ============================  ==========================
bool                      bool                          INTEGER 0 or 1
int8 ... int64            the same                      INTEGER
uint8 ... uint64          the same                      INTEGER, below 2**63
float32, float64          float, double                 REAL; NaN is NULL
string                    string                        TEXT
binary                    binary                        BLOB
date32                    date32[day]                   INTEGER, days since 1970
timestamp[us]             timestamp[us]                 INTEGER, microseconds
timestamp[us, ZONE]       timestamp[us, tz=ZONE]        INTEGER, microseconds UTC
json                      string (JSON text)            TEXT
========================  ============================  ==========================
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sqlstore.errors import SchemaError
from sqlstore.types import SqlValue

MAX_SQL_INTEGER: Final = 2**63 - 1
_EPOCH = dt.datetime(1970, 1, 1)
_EPOCH_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_MICROSECOND = dt.timedelta(microseconds=1)
_FIRST_MICROSECOND = (dt.datetime.min - _EPOCH) // _MICROSECOND
_LAST_MICROSECOND = (dt.datetime.max - _EPOCH) // _MICROSECOND
_DAY = dt.timedelta(days=1) // _MICROSECOND
_ZONED = re.compile(r"timestamp\[us,\s*(?:tz=)?(?P<zone>[^\]]+)\]")

Convert = Callable[[Any], SqlValue]


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
        return _to_list(array.cast(self.plain) if self.plain != self.arrow else array)

    def to_python(self, array: pa.Array) -> list[object]:
        """Return each value of an array of the declared type as Python's own kind of value."""
        return array.to_pylist()  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"ColumnType({self.name!r})"


def _to_list(array: pa.Array) -> list[SqlValue]:
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


class _Bool(ColumnType):
    name = "bool"
    arrow = pa.bool_()
    storage = "INTEGER"
    plain = pa.int64()
    can_be_key = False

    def convert(self, value: Any) -> SqlValue:
        if isinstance(value, (bool, np.bool_)):
            return int(value)
        raise TypeError(f"expected True or False, got {_shown(value)}")

    def accept(self, array: pa.Array) -> pa.Array:
        if array.type not in (self.arrow, pa.null()):
            raise ValueError(f"{array.type} values do not fit a bool column")
        return array.cast(self.arrow)

    def to_sql(self, array: pa.Array) -> list[SqlValue]:
        return _to_list(array)


class _Integer(ColumnType):
    storage = "INTEGER"

    def __init__(self, arrow: pa.DataType) -> None:
        self.name = str(arrow)
        self.arrow = self.plain = arrow
        limits = np.iinfo(self.name)
        self.lowest = int(limits.min)
        self.highest = min(int(limits.max), MAX_SQL_INTEGER)

    def convert(self, value: Any) -> SqlValue:
        if type(value) is not int:
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise TypeError(f"expected an integer, got {_shown(value)}")
            value = int(value)
        if self.lowest <= value <= self.highest:
            return value  # type: ignore[no-any-return]
        raise OverflowError(f"{value} is not between {self.lowest} and {self.highest}")

    def accept(self, array: pa.Array) -> pa.Array:
        if pa.types.is_string(array.type) or pa.types.is_boolean(array.type):
            raise ValueError(f"{array.type} values do not fit a {self.name} column")
        array = super().accept(array)
        if self.name == "uint64" and len(array) > array.null_count:
            highest = pc.max(array).as_py()
            if highest > MAX_SQL_INTEGER:
                raise ValueError(f"{highest} is above 2**63 - 1, the largest integer of SQLite")
        return array


class _Float(ColumnType):
    storage = "REAL"
    can_be_key = False

    def __init__(self, arrow: pa.DataType, name: str) -> None:
        self.name = name
        self.arrow = arrow
        self.plain = arrow

    def convert(self, value: Any) -> SqlValue:
        if type(value) is not float:
            if not isinstance(value, (int, float, np.number)) or isinstance(value, bool):
                raise TypeError(f"expected a number, got {_shown(value)}")
            value = float(value)
        if self.name == "float64":
            return value  # type: ignore[no-any-return]
        with np.errstate(over="ignore"):
            single = float(np.float32(value))
        if math.isinf(single) and not math.isinf(value):
            raise OverflowError(f"{value} is too large for float32")
        return single

    def accept(self, array: pa.Array) -> pa.Array:
        if pa.types.is_string(array.type) or pa.types.is_boolean(array.type):
            raise ValueError(f"{array.type} values do not fit a {self.name} column")
        return super().accept(array)

    def to_sql(self, array: pa.Array) -> list[SqlValue]:
        return _to_list(array)


class _String(ColumnType):
    name = "string"
    arrow = plain = pa.string()
    storage = "TEXT"

    def convert(self, value: Any) -> SqlValue:
        if type(value) is not str:
            if not isinstance(value, str):
                raise TypeError(f"expected a string, got {_shown(value)}")
            value = str.__str__(value)
        if not value.isascii():
            value.encode()  # lone surrogates have no UTF-8 form
        return value  # type: ignore[no-any-return]

    def accept(self, array: pa.Array) -> pa.Array:
        kinds = (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_dictionary,
            pa.types.is_null,
        )
        if not any(kind(array.type) for kind in (*kinds, pa.types.is_string_view)):
            raise ValueError(f"{array.type} values do not fit a {self.name} column")
        array = super().accept(array)
        array.validate(full=True)
        return array


class _Json(_String):
    name = "json"
    can_be_key = False

    def convert(self, value: Any) -> SqlValue:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
        return text

    def accept(self, array: pa.Array) -> pa.Array:
        if pa.types.is_nested(array.type):
            values = [None if v is None else self.convert(v) for v in array.to_pylist()]
            return self.build(values)
        array = super().accept(array)
        for text in array.to_pylist():
            if text is not None:
                json.loads(text)
        return array

    def to_python(self, array: pa.Array) -> list[object]:
        return [None if text is None else json.loads(text) for text in array.to_pylist()]


class _Binary(ColumnType):
    name = "binary"
    arrow = plain = pa.binary()
    storage = "BLOB"

    def convert(self, value: Any) -> SqlValue:
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise TypeError(f"expected bytes, got {_shown(value)}")


class _Date(ColumnType):
    name = "date32"
    arrow = pa.date32()
    storage = "INTEGER"
    plain = pa.int32()

    def convert(self, value: Any) -> SqlValue:
        if isinstance(value, np.datetime64) and not np.isnat(value):
            value = _exactly(value, "D").astype(object)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return value.toordinal() - _EPOCH_DAY
        raise TypeError(f"expected a date, got {_shown(value)}")

    def accept(self, array: pa.Array) -> pa.Array:
        if pa.types.is_integer(array.type):
            raise ValueError(f"{array.type} values do not fit a {self.name} column")
        array = super().accept(array)
        _refuse_outside_years(array, -_EPOCH_DAY + 1, dt.date.max.toordinal() - _EPOCH_DAY)
        return array


class _Timestamp(ColumnType):
    storage = "INTEGER"
    plain = pa.int64()

    def __init__(self, zone: str | None) -> None:
        self.zone = zone
        self.name = f"timestamp[us, {zone}]" if zone else "timestamp[us]"
        self.arrow = pa.timestamp("us", tz=zone)
        # In its own zone, a moment may be up to a day earlier or later than in UTC.
        margin = _DAY if zone else 0
        self.first, self.last = _FIRST_MICROSECOND + margin, _LAST_MICROSECOND - margin

    def convert(self, value: Any) -> SqlValue:
        if isinstance(value, np.datetime64) and not np.isnat(value):
            if self.zone is not None:
                raise TypeError("a NumPy datetime has no zone, but the column has one")
            return int(_exactly(value, "us").astype(np.int64))
        if not isinstance(value, dt.datetime):
            raise TypeError(f"expected a datetime, got {_shown(value)}")
        if (value.tzinfo is None) != (self.zone is None):
            which = (
                "no zone, but the column has one" if self.zone else "a zone, but the column none"
            )
            raise TypeError(f"{value!r} has {which}")
        if getattr(value, "nanosecond", 0):
            raise ValueError(f"{value!r} is finer than a microsecond")
        if type(value) is not dt.datetime and hasattr(value, "to_pydatetime"):
            value = value.to_pydatetime()
        since: int = (value - (_EPOCH_UTC if self.zone else _EPOCH)) // _MICROSECOND
        if not self.first <= since <= self.last:
            raise ValueError(f"{value!r} is too near the end of what its zone can hold")
        return since

    def accept(self, array: pa.Array) -> pa.Array:
        if pa.types.is_timestamp(array.type) and (array.type.tz is None) != (self.zone is None):
            raise ValueError(
                f"{array.type} values do not fit a {self.name} column: one has no zone"
            )
        if not (pa.types.is_timestamp(array.type) or pa.types.is_null(array.type)):
            raise ValueError(f"{array.type} values do not fit a {self.name} column")
        array = super().accept(array)
        _refuse_outside_years(array, self.first, self.last)
        return array


def _exactly(value: np.datetime64, unit: str) -> np.datetime64:
    result = value.astype(f"datetime64[{unit}]")
    if result != value:
        raise ValueError(f"{value!r} is finer than the column keeps")
    return result  # type: ignore[no-any-return]


def _refuse_outside_years(array: pa.Array, first: int, last: int) -> None:
    """Refuse what Python's own dates cannot hold, so that every record can be read back."""
    if len(array) == array.null_count:
        return
    extremes = pc.min_max(array.cast(pa.int32() if array.type == pa.date32() else pa.int64()))
    if extremes["min"].as_py() < first or extremes["max"].as_py() > last:
        raise ValueError("a date before the year 1 or after the year 9999")


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


_TYPES: Final[dict[str, ColumnType]] = {
    kind.name: kind
    for kind in (
        _Bool(),
        *(
            _Integer(pa.type_for_alias(f"{sign}int{bits}"))
            for sign in ("", "u")
            for bits in (8, 16, 32, 64)
        ),
        _Float(pa.float32(), "float32"),
        _Float(pa.float64(), "float64"),
        _String(),
        _Binary(),
        _Date(),
        _Timestamp(None),
        _Json(),
    )
}
_ALIASES: Final = {
    "float": "float32",
    "double": "float64",
    "date32[day]": "date32",
    "utf8": "string",
}


def column_type(declared: str | pa.DataType) -> ColumnType:
    """Return the column type for a name such as ``"int32"`` or for an Arrow type.

    Raises
    ------
    SchemaError
        No metadata column can have this type.
    """
    text = str(declared).strip()
    text = _ALIASES.get(text, text)
    if text in _TYPES:
        return _TYPES[text]
    if match := _ZONED.fullmatch(text):
        zone = match["zone"].strip()
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, KeyError) as error:
            raise SchemaError(f"{zone!r} is not a time zone that this machine knows") from error
        return _Timestamp(zone)
    raise SchemaError(
        f"{text!r} is not a type of metadata column; the types are {', '.join(_TYPES)} "
        "and timestamp[us, ZONE]"
    )
