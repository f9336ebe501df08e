"""What to declare for the values of one name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from sqlstore.columns.base import shown
from sqlstore.errors import SchemaError
from sqlstore.inference.kinds import (
    ARRAY,
    BYTES,
    EMPTY,
    IMAGE,
    JSON,
    NUMBERS,
    SEQUENCES,
    TEXT,
    TEXTS,
    TREE,
    kind_of,
)

LONG_TEXT: Final = 4096
"""Characters: what is longer on average goes to the chunks and not to SQLite."""

_NESTED: Final = frozenset({JSON, TREE, TEXTS})
_SIGNATURES: Final = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff",
    "npy": b"\x93NUMPY",
}


class Declared(NamedTuple):
    """A field or a metadata column, as `sqlstore.create` takes it."""

    is_field: bool
    what: str


def declared(name: object, values: Sequence[Any]) -> Declared:
    """Return what to declare for the values of one name, None among them where one is missing.

    Raises
    ------
    SchemaError
        They are of kinds that do not go together, of none that is known, or all missing.
    """
    firsts: dict[str, int] = {}
    for row, value in enumerate(values):
        if value is not None:
            firsts.setdefault(_known(name, value, row), row)
    if not firsts:
        raise SchemaError(
            f"{name!r} is missing in all {len(values)} records that were looked at; declare it, as "
            f'in metadata={{{name!r}: "string"}} or fields={{{name!r}: "bytes"}}'
        )
    there = [value for value in values if value is not None]
    if NUMBERS.issuperset(firsts):
        return Declared(False, _number(name, firsts, there))
    return _declared(_single(name, firsts, values), there)


def _known(name: object, value: object, row: int) -> str:
    kind = kind_of(value)
    if kind is None:
        raise SchemaError(
            f"{name!r} is {shown(value)}, from which nothing can be inferred; declare a field "
            "that takes it, or give an array, image, number, text, bytes, date, list or dict",
            row=row,
        )
    return kind


def _number(name: object, kinds: Collection[str], values: Iterable[Any]) -> str:
    """Return the smallest column type that holds all of some kinds of numbers."""
    wide = np.result_type(*kinds)
    if wide.kind != "f":
        return wide.name
    if not any(kind.startswith("float") for kind in kinds):
        return "int64"  # no column holds what uint64 has beyond it
    for value in values:
        if isinstance(value, (int, np.integer)) and not _is_exact(value):
            raise SchemaError(
                f"{name!r} has integers and floats, and float64 does not hold {value} exactly; "
                f'declare it, as in metadata={{{name!r}: "float64"}}'
            )
    return "float32" if wide == np.float16 else wide.name


def _is_exact(value: int | np.integer[Any]) -> bool:
    """Return whether a float holds exactly this integer."""
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _single(name: object, firsts: dict[str, int], values: Sequence[object]) -> str:
    """Return the one kind that several kinds come to."""
    kinds = [kind for kind in firsts if kind not in EMPTY]
    if _NESTED.issuperset(kinds):
        if TREE in kinds or "()" in firsts:
            return TREE
        return TEXTS if kinds == [TEXTS] else JSON
    if len(kinds) == 1 and (len(firsts) == 1 or kinds[0] in SEQUENCES):
        return kinds[0]
    one, other = (kinds if len(kinds) > 1 else list(firsts))[:2]
    raise SchemaError(
        f"{name!r} is {one} in row {firsts[one]} ({shown(values[firsts[one]])}) and {other} in row "
        f"{firsts[other]} ({shown(values[firsts[other]])}); make them of one kind, or declare what "
        f'holds both, as in fields={{{name!r}: "tree"}}'
    )


def _declared(kind: str, values: Sequence[Any]) -> Declared:
    if kind not in SEQUENCES:
        return _of_values(kind, values)
    items = [item for value in values for item in value]
    if kind == TEXTS and not _is_long(items):
        return Declared(False, JSON)
    return Declared(True, f"{_of_values(kind.removesuffix('[]'), items).what}[]")


def _of_values(kind: str, values: Sequence[Any]) -> Declared:
    if kind == TEXT:
        return Declared(True, "utf8") if _is_long(values) else Declared(False, "string")
    if kind == BYTES:
        return Declared(True, _format(values))
    if kind == IMAGE:
        return Declared(True, "png")
    return Declared(kind in (ARRAY, TREE), kind)


def _is_long(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) > LONG_TEXT * len(texts)


def _format(values: Sequence[Any]) -> str:
    """Return the encoding of files if all values are files of one format."""
    for encoding, signature in _SIGNATURES.items():
        if all(bytes(value[: len(signature)]) == signature for value in values):
            return encoding
    return BYTES
