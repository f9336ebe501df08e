"""Values that people bind to SQL: what Python has, as what SQLite stores."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any, Final

import numpy as np

from sqlstore.columns import ColumnType, column_type
from sqlstore.columns.time import Date, Timestamp
from sqlstore.errors import QueryError
from sqlstore.types import SqlValue

_JSON = column_type("json")
_DATE = column_type("date32")
_TIMESTAMP = column_type("timestamp[us]")
_TIMESTAMP_UTC = column_type("timestamp[us, UTC]")
_LISTS: Final = (
    "; for IN, use `store.c.name.in_([...])`, or bind the list as JSON: "
    "`name IN (SELECT value FROM json_each(:values))`"
)
_BOUND_AS: Final = {
    "date": "a date, such as date(2024, 5, 1)",
    "datetime": "a datetime without a zone, such as datetime(2024, 5, 1)",
    "zoned datetime": "a datetime with a zone, such as datetime(2024, 5, 1, tzinfo=UTC)",
}
"""What a column of each kind of time is compared with."""


def bindable(value: Any) -> SqlValue:
    """Return what SQLite stores for a value that is bound to SQL text.

    Dates become days and datetimes microseconds since 1970 (UTC for those with a zone), as the
    columns of these types hold them; NaN becomes NULL.

    Raises
    ------
    QueryError
        No column holds values of this kind.
    """
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _bindable_text(value)
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise QueryError(f"{value} is outside the integers of SQLite")
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return _bindable_time(value)


def _bindable_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"cannot bind {value!r}: {error}") from error
    return value


def _bindable_time(value: Any) -> SqlValue:
    kind = _time_type(value)
    if kind is None:
        hint = _LISTS if _is_list(value) else ""
        raise QueryError(
            f"cannot bind a {type(value).__name__}; "
            f"use None, bool, int, float, str, bytes, date or datetime{hint}"
        )
    try:
        return kind.convert(value)
    except (TypeError, ValueError) as error:
        raise QueryError(f"cannot bind {value!r}: {error}") from error


def _is_list(value: object) -> bool:
    return isinstance(value, (Sequence, Set, np.ndarray))


def _as_json(value: Any) -> SqlValue:
    if not (_is_list(value) or isinstance(value, Mapping)) or isinstance(value, (str, bytes)):
        return bindable(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, tuple):
        value = list(value)
    try:
        return _JSON.convert(value)
    except (TypeError, ValueError) as error:
        raise QueryError(f"cannot bind this {type(value).__name__} as JSON: {error}") from error


def _time_type(value: object) -> ColumnType | None:
    """Return the type of the columns that hold a date or datetime; None for any other value."""
    if isinstance(value, dt.datetime):
        return _TIMESTAMP_UTC if value.tzinfo else _TIMESTAMP
    if isinstance(value, np.datetime64):
        is_day = np.datetime_data(value.dtype)[0] in ("Y", "M", "W", "D")
        return _DATE if is_day else _TIMESTAMP
    return _DATE if isinstance(value, dt.date) else None


def _kind_of_time(kind: ColumnType | None) -> str | None:
    """Return which values a column is compared with, as a key of `_BOUND_AS`; None if any."""
    if isinstance(kind, Timestamp):
        return "zoned datetime" if kind.zone else "datetime"
    return "date" if isinstance(kind, Date) else None


def bindable_for(value: Any, kind: ColumnType) -> SqlValue:
    """Return what SQLite stores for a value that a column of this type is compared with."""
    if isinstance(value, str) and kind.name.startswith(("timestamp", "date")):
        raise QueryError(
            f"a {kind.name} column never equals text such as {value!r}; compare it with a "
            f"{'date' if kind.name == 'date32' else 'datetime'}"
        )
    if kind.name == "json":
        return _as_json(value)
    is_time = isinstance(value, (dt.date, np.datetime64))
    is_single = kind.name == "float32" and isinstance(value, (float, np.floating))
    if not (is_time or is_single) or (is_single and math.isnan(value)):
        return bindable(value)
    try:
        return kind.convert(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise QueryError(f"cannot compare a {kind.name} column with {value!r}: {error}") from error


def bindable_all(
    parameters: Mapping[str, object],
    columns: Iterable[ColumnType],
    as_json: Collection[str] = (),
) -> dict[str, SqlValue]:
    """Return bound values as SQLite stores them.

    Parameters
    ----------
    parameters
        The values by name.
    columns
        The types of the columns that there are. Which of them a value is compared with, SQLite does
        not say; but a date or datetime that none of them holds would be compared with numbers of
        another unit.
    as_json
        The names of the values that stand where JSON does: lists and mappings become its text.

    Raises
    ------
    QueryError
        No column holds values of this kind.
    """
    bound = {
        name: _as_json(value) if name in as_json else bindable(value)
        for name, value in parameters.items()
    }
    there = {kind: column for column in columns if (kind := _kind_of_time(column))}
    for value in parameters.values():
        given = _kind_of_time(_time_type(value))
        if there and given and given not in there:
            needed = "; ".join(
                f"a {column.name} column is compared with {_BOUND_AS[kind]}"
                for kind, column in there.items()
            )
            raise QueryError(f"cannot bind the {given} {value!r}: {needed}")
    return bound
