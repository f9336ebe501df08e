"""Parts of one record: some of its fields and metadata, and of its sequences some items."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from sqlstore.errors import SchemaError
from sqlstore.reading.decode import decoded_items, value
from sqlstore.schema import ID

if TYPE_CHECKING:
    from sqlstore.schema import Field
    from sqlstore.source import Source

Items: TypeAlias = "bool | slice | Sequence[int]"
"""Of a sequence: all items, a slice as of a list, or the numbers of some, such as a range."""

Mask: TypeAlias = Mapping[str, Items]

_NO_NUMBERS: Final = (bool, str, bytes, bytearray, Mapping, Set)
"""What may be iterated over, and is no numbers in an order."""


def masked(source: Source, record: int, mask: Mask) -> dict[str, Any]:
    """Return what a mask names of a record; `View.read` describes it."""
    schema = source.schema
    found: dict[str, Any] = {}
    for name, wanted in mask.items():
        if wanted is False:
            continue
        if name in schema.fields:
            found[name] = _value(source, record, schema.fields[name], wanted)
            continue
        if wanted is not True:
            raise SchemaError(
                f"a metadata column has no items: it is True or False, not {wanted!r}"
            )
        if name == ID:
            found[name] = record
            continue
        column = schema.columns[name]
        ((array,),) = source.metadata(range(record, record + 1), [column])
        (found[name],) = column.kind.to_python(array)
    return found


def _value(source: Source, record: int, field: Field, wanted: Items) -> object:
    if wanted is True:
        return value(source, record, field)
    if not field.is_sequence:
        raise SchemaError(
            f"a value of {field.encoding} has no items: the mask is True or False, not {wanted!r}",
            field=field.name,
        )
    count = source.count(record, field)
    return (
        None if count is None else decoded_items(source, record, field, numbers_of(wanted, count))
    )


def raw_items(source: Source, record: int, field: Field, wanted: Items) -> list[bytes] | None:
    """Return items of a sequence decompressed and not decoded; None if there is no sequence."""
    count = source.count(record, field)
    if count is None:
        return None
    found = source.items(record, field, numbers_of(wanted, count))
    return [bytes(one) for one in found or ()]


def available(source: Source, record: int) -> dict[str, bool | range]:
    """Return for each field whether a record has a value; for a sequence, its range of items."""
    found: dict[str, bool | range] = {}
    for name, field in source.schema.fields.items():
        if field.is_sequence:
            count = source.count(record, field)
            found[name] = False if count is None else range(count)
        else:
            found[name] = source.size(record, field) is not None
    return found


def numbers_of(wanted: Items, count: int) -> Sequence[int] | None:
    """Return which items of a sequence are wanted, from 0; None for all.

    Raises
    ------
    IndexError
        One is not in the sequence.
    """
    if wanted is True:
        return None
    if isinstance(wanted, slice):
        return range(count)[wanted]
    if isinstance(wanted, _NO_NUMBERS) or not hasattr(wanted, "__iter__"):
        raise TypeError(f"items are True, a slice, a range or a list of integers, not {wanted!r}")
    items = range(count)
    numbers = []
    for one in wanted:
        if isinstance(one, (bool, np.bool_)):
            raise TypeError("items are chosen by their numbers, not by booleans")
        try:
            numbers.append(items[operator.index(one)])
        except IndexError:
            raise IndexError(f"item {one} of a sequence of {count}") from None
    return numbers
