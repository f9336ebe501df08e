"""Fields and metadata columns for records of which nobody has declared them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from sqlstore.columnar import is_list
from sqlstore.columns import column_type
from sqlstore.columns.base import is_bytes, is_text
from sqlstore.errors import SchemaError
from sqlstore.given import plain
from sqlstore.inference.declared import Declared, declared
from sqlstore.inference.sample import Sample, peeked
from sqlstore.schema import Column, Field

FIRST: Final = 1000
"""How many records are looked at by default."""

Fields = dict[str, str | Field]
Columns = dict[str, str | pa.DataType | Column]


def infer(
    records: Any,
    *,
    fields: Mapping[str, str | Field] | None = None,
    metadata: Mapping[str, str | pa.DataType | Column] | None = None,
    first: int = FIRST,
) -> tuple[Fields, Columns]:
    """Return the fields and metadata columns that records suggest, as `create` takes them.

    Nothing is guessed that would lose something; `docs/schema.md` has the rules.

    Parameters
    ----------
    records
        As `Store.extend` takes them. An iterator or stream loses those that are looked at: give
        it to `create`, which does not.
    fields, metadata
        What is declared already, and is not looked at.
    first
        How many records to look at; fewer if they come to 64 MiB.

    Returns
    -------
    tuple of dict
        The encoding of each field, and the type of each metadata column.

    Raises
    ------
    SchemaError
        There are no records, or the values of a name are of several kinds, of none that is known,
        or all missing.
    """
    if first < 1:
        raise ValueError(f"at least one record is looked at, not {first}")
    return completed(peeked(records, first)[0], fields or {}, metadata or {})


def completed(
    sample: Sample,
    fields: Mapping[str, str | Field],
    metadata: Mapping[str, str | pa.DataType | Column],
) -> tuple[Fields, Columns]:
    """Return what is declared, and behind it what the first records suggest for other names."""
    all_fields, all_columns = dict(fields), dict(metadata)
    for name, values in sample.columns.items():
        if name in fields or name in metadata:
            continue
        is_field, what = _suggested(name, values)
        if is_field:
            all_fields[name] = what
        else:
            all_columns[name] = what
    return all_fields, all_columns


def _suggested(name: str, values: Sequence[Any] | pa.ChunkedArray) -> Declared:
    if not isinstance(values, pa.ChunkedArray):
        return declared(name, values)
    arrays = [plain(chunk) for chunk in values.chunks or [pa.nulls(0, values.type)]]
    kind = arrays[0].type
    if _holds_arrays(kind):
        return Declared(True, "array")
    if is_text(kind) or is_bytes(kind) or pa.types.is_nested(kind) or pa.types.is_null(kind):
        found = [one for array in arrays for one in array.to_pylist()]
        if any(one is not None for one in found) or not (is_text(kind) or is_bytes(kind)):
            return declared(name, found)
        return Declared(False, "string") if is_text(kind) else Declared(True, "bytes")
    return Declared(False, _column(name, kind))


def _holds_arrays(kind: pa.DataType) -> bool:
    """Return whether each value is an array: a tensor, or a list of numbers."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return True
    if not is_list(kind):
        return False
    item = kind.value_type
    return bool(pa.types.is_integer(item) or pa.types.is_floating(item))


def _column(name: str, kind: pa.DataType) -> str:
    """Return the type of metadata column that holds what an Arrow type holds."""
    if pa.types.is_timestamp(kind):
        return column_type(pa.timestamp("us", kind.tz)).name
    if pa.types.is_date(kind):
        return "date32"
    if pa.types.is_float16(kind):
        return "float32"
    try:
        return column_type(kind).name
    except SchemaError as error:
        raise SchemaError(
            f"nothing can be inferred from {name!r}, a column of {kind}; cast it, or declare what "
            "holds it"
        ) from error
