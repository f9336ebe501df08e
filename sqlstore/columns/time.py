"""Dates and timestamps."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sqlstore.columns.base import ColumnType, shown
from sqlstore.types import SqlValue

_EPOCH = dt.datetime(1970, 1, 1)
_EPOCH_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_MICROSECOND = dt.timedelta(microseconds=1)
_FIRST_MICROSECOND = (dt.datetime.min - _EPOCH) // _MICROSECOND
_LAST_MICROSECOND = (dt.datetime.max - _EPOCH) // _MICROSECOND
_DAY = dt.timedelta(days=1) // _MICROSECOND


class Date(ColumnType):
    """Calendar days, from the year 1 to 9999."""

    name = "date32"
    arrow = pa.date32()
    storage = "INTEGER"
    plain = pa.int32()

    def convert(self, value: Any) -> SqlValue:
        if isinstance(value, np.datetime64) and not np.isnat(value):
            value = _exactly(value, "D").astype(object)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return value.toordinal() - _EPOCH_DAY
        raise TypeError(f"expected a date, got {shown(value)}")

    def takes(self, kind: pa.DataType) -> bool:
        return bool(pa.types.is_date(kind))

    def check(self, array: pa.Array) -> None:
        _refuse_outside_years(array, -_EPOCH_DAY + 1, dt.date.max.toordinal() - _EPOCH_DAY)


class Timestamp(ColumnType):
    """Moments in microseconds: of a time zone, kept in UTC, or of none."""

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
            return self._within(int(_exactly(value, "us").astype(np.int64)), value)
        if not isinstance(value, dt.datetime):
            raise TypeError(f"expected a datetime, got {shown(value)}")
        if (value.tzinfo is None) != (self.zone is None):
            which = (
                "no zone, but the column has one" if self.zone else "a zone, but the column none"
            )
            raise TypeError(f"{value!r} has {which}")
        if getattr(value, "nanosecond", 0):
            raise ValueError(f"{value!r} is finer than a microsecond")
        if type(value) is not dt.datetime and hasattr(value, "to_pydatetime"):
            value = value.to_pydatetime()
        return self._within((value - (_EPOCH_UTC if self.zone else _EPOCH)) // _MICROSECOND, value)

    def _within(self, since: int, value: object) -> int:
        if not self.first <= since <= self.last:
            raise ValueError(f"{value!r} is before the year 1 or after the year 9999")
        return since

    def takes(self, kind: pa.DataType) -> bool:
        return pa.types.is_timestamp(kind) and (kind.tz is None) == (self.zone is None)

    def check(self, array: pa.Array) -> None:
        _refuse_outside_years(array, self.first, self.last)


def _exactly(value: np.datetime64, unit: str) -> np.datetime64:
    result: np.datetime64 = value.astype(f"datetime64[{unit}]")
    if result != value:
        raise ValueError(f"{value!r} is finer than the column keeps")
    return result


def _refuse_outside_years(array: pa.Array, first: int, last: int) -> None:
    """Refuse what Python's own dates cannot hold, so that every record can be read back."""
    if len(array) == array.null_count:
        return
    extremes = pc.min_max(array.cast(pa.int32() if array.type == pa.date32() else pa.int64()))
    if extremes["min"].as_py() < first or extremes["max"].as_py() > last:
        raise ValueError("a date before the year 1 or after the year 9999")
