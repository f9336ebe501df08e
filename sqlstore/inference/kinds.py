"""What kind of value one value is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from sqlstore.columns import column_type
from sqlstore.encodings import ENCODINGS
from sqlstore.encodings.images import is_image
from sqlstore.errors import EncodeError, SchemaError

ARRAY: Final = "array"
IMAGE: Final = "image"
TEXT: Final = "text"
BYTES: Final = "bytes"
JSON: Final = "json"
TREE: Final = "tree"
TEXTS: Final = f"{TEXT}[]"
SEQUENCES: Final = frozenset(f"{kind}[]" for kind in (ARRAY, IMAGE, TEXT, BYTES))
EMPTY: Final = frozenset({"[]", "()"})
"""A list and a tuple without items, which go with every other sequence."""
NUMBERS: Final = frozenset(
    ["float16", "float32", "float64", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))]
)


def kind_of(value: object) -> str | None:
    """Return the kind of a value that is not None.

    Returns
    -------
    str or None
        A type of metadata column, one of the constants above, one of them with ``[]`` behind it,
        or None where it is nothing that a schema can be inferred from.
    """
    for types, kind in _KINDS:
        if isinstance(value, types):
            return kind(value) if callable(kind) else kind
    return IMAGE if is_image(value) else None


def _numpy_number(value: np.generic) -> str | None:
    name = value.dtype.name
    return name if name in NUMBERS else None


def _numpy_time(value: np.datetime64) -> str:
    unit = np.datetime_data(value.dtype)[0]
    return "date32" if unit in ("Y", "M", "W", "D") else "timestamp[us]"


def _timestamp(value: dt.datetime) -> str:
    """Return the column type of a moment; one with a mere offset from UTC is kept in UTC."""
    if value.tzinfo is None:
        return "timestamp[us]"
    zone = getattr(value.tzinfo, "key", None) or getattr(value.tzinfo, "zone", None)
    try:
        return column_type(f"timestamp[us, {zone or 'UTC'}]").name
    except SchemaError:
        return "timestamp[us, UTC]"


def _nested(value: Any) -> str:
    try:
        ENCODINGS[JSON].encode(value)
    except EncodeError:
        return TREE
    return JSON


def _kind_of_item(item: object) -> str | None:
    """Return the kind of what is not nested itself, and so cannot contain what it is in."""
    return None if item is None or isinstance(item, (dict, list, tuple)) else kind_of(item)


def _sequence(value: Sequence[object]) -> str:
    if not value:
        return "[]" if isinstance(value, list) else "()"
    first = _kind_of_item(value[0])
    kind = f"{first}[]"
    if kind not in SEQUENCES or any(_kind_of_item(one) != first for one in value):
        return _nested(value)
    return _nested(value) if first == TEXT and not isinstance(value, list) else kind


_KINDS: Final[list[tuple[type | tuple[type, ...], str | Callable[[Any], str | None]]]] = [
    # What is derived from another type comes before it: bool from int, np.float64 from float.
    (np.ndarray, lambda array: None if array.dtype.hasobject else ARRAY),
    ((bool, np.bool_), "bool"),
    ((np.integer, np.floating), _numpy_number),
    (np.datetime64, _numpy_time),
    (int, "int64"),
    (float, "float64"),
    (str, TEXT),
    ((bytes, bytearray, memoryview), BYTES),
    (dt.datetime, _timestamp),
    (dt.date, "date32"),
    (dict, _nested),
    ((list, tuple), _sequence),
]
