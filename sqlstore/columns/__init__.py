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

import re
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from sqlstore.columns.base import ColumnType
from sqlstore.columns.plain import Binary, Bool, Float, Integer, Json, String
from sqlstore.columns.time import Date, Timestamp
from sqlstore.errors import SchemaError

__all__ = ["ColumnType", "column_type"]

_ZONED = re.compile(r"timestamp\[us,\s*(?:tz=)?(?P<zone>[^\]]+)\]")

_TYPES: Final[dict[str, ColumnType]] = {
    kind.name: kind
    for kind in (
        Bool(),
        *(
            Integer(pa.type_for_alias(f"{sign}int{bits}"))
            for sign in ("", "u")
            for bits in (8, 16, 32, 64)
        ),
        Float(pa.float32(), "float32"),
        Float(pa.float64(), "float64"),
        String(),
        Binary(),
        Date(),
        Timestamp(None),
        Json(),
    )
}
_ALIASES: Final = {"double": "float64", "date32[day]": "date32", "utf8": "string"}
_MEANT: Final = {
    "str": '"string"',
    "text": '"string"',
    "int": '"int64"',
    "float": '"float64", or "float32", which Arrow calls float',
    "bytes": '"binary"',
    "dict": '"json"',
    "list": '"json"',
    "date": '"date32"',
    "datetime": '"timestamp[us]" or "timestamp[us, UTC]"',
    "timestamp": '"timestamp[us]" or "timestamp[us, UTC]"',
}
"""What is refused, as it may mean several types, by names that people try."""


def column_type(declared: str | pa.DataType) -> ColumnType:
    """Return the column type for a name such as ``"int32"`` or for an Arrow type.

    Raises
    ------
    SchemaError
        No metadata column can have this type.
    """
    if isinstance(declared, pa.DataType) and declared == pa.float32():
        return _TYPES["float32"]  # whose name in Arrow is that of Python's 64 bits
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
        return Timestamp(zone)
    name = declared.__name__ if isinstance(declared, type) else text
    known = f'"{name}"' if name in _TYPES else _MEANT.get(name)
    meant = f"; perhaps you mean {known}" if known else ""
    raise SchemaError(
        f"{text!r} is not a type of metadata column; the types are {', '.join(_TYPES)} "
        f"and timestamp[us, ZONE]{meant}"
    )
